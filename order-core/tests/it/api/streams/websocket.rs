//! The websocket: keys, listening, places, and clients that do not read.

use super::*;
use tokio::net::TcpSocket;

#[tokio::test(flavor = "multi_thread")]
async fn both_forms_of_the_key_and_the_headers_let_a_client_in() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let addr = world.copy.api_addr;
    let listen = json!({"action": "listen", "data": {"streams": ["trade_updates"]}});
    let mut first = Socket::listening(addr, &customer).await;
    let mut second = Socket::open(addr).await;
    // Nobody listens without a key, and may show one afterwards.
    assert_eq!(second.ask(&listen).await, authorization("unauthorized", "listen"));
    let wrong = json!({"action": "auth", "key": customer.key_id, "secret": "no"});
    assert_eq!(second.ask(&wrong).await, authorization("unauthorized", "authenticate"));
    let right = json!({"action": "auth", "key": customer.key_id, "secret": customer.secret});
    assert_eq!(second.ask(&right).await, authorization("authorized", "authenticate"));
    second.listen(None).await;
    let mut request =
        tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(format!("ws://{addr}/stream/"))
            .unwrap();
    request.headers_mut().insert("apca-api-key-id", customer.key_id.parse().unwrap());
    request.headers_mut().insert("apca-api-secret-key", customer.secret.parse().unwrap());
    let mut third = Socket(tokio_tungstenite::connect_async(request.clone()).await.unwrap().0);
    third.listen(None).await;
    request.headers_mut().insert("apca-api-secret-key", "no".parse().unwrap());
    assert!(tokio_tungstenite::connect_async(request).await.is_err());
    let order = place(&customer, "one").await;
    Facts::of(&world).fill(customer.account_id, order, "b-1").await;
    let told = first.take(4).await;
    assert_eq!(words(&told), ["pending_new", "new", "partial_fill", "fill"]);
    assert_eq!((second.take(4).await, third.take(4).await), (told.clone(), told));
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_replaces_what_is_listened_to_and_asked_twice_repeats_nothing() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let mut socket = Socket::listening(world.copy.api_addr, &customer).await;
    place(&customer, "one").await;
    let one = socket.update().await;
    socket.listen(None).await;
    place(&customer, "two").await;
    let two = socket.update().await;
    assert_eq!(numbers(&[one.clone(), two.clone()]), [1, 2]);
    let nothing = json!({"action": "listen", "data": {"streams": []}});
    assert_eq!(socket.ask(&nothing).await, json!({"stream": "listening", "data": {"streams": []}}));
    place(&customer, "three").await;
    // From now on, and from a cursor: the next frame after each answer says which.
    socket.listen(None).await;
    place(&customer, "four").await;
    assert_eq!(numbers(&[socket.update().await]), [4]);
    socket.listen(Some(&one.event_id)).await;
    assert_eq!(numbers(&socket.take(3).await), [2, 3, 4]);
    socket.listen(Some(START)).await;
    assert_eq!(numbers(&socket.take(4).await), [1, 2, 3, 4]);
    let unknown = json!({"streams": ["trade_updates"], "since_id": "01JZ0000000000000000000001"});
    let answer = socket.ask(&json!({"action": "listen", "data": unknown})).await;
    assert_eq!(answer["action"], "error");
    place(&customer, "five").await;
    assert_eq!(numbers(&[socket.update().await]), [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_binary_or_text_as_configured() {
    for (frames, is_binary) in [("binary", true), ("text", false)] {
        let world = ApiWorld::with(|settings| settings.stream.frames = frames.parse().unwrap()).await;
        let customer = world.customer("1000").await;
        let mut socket = Socket::listening(world.copy.api_addr, &customer).await;
        place(&customer, "one").await;
        let frame = tokio::time::timeout(PATIENCE, socket.0.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.is_binary(), is_binary, "{frame:?}");
        assert_ne!(frame.is_text(), is_binary);
    }
}

/// A socket whose client never reads, and which the system can hardly read for it either.
async fn deaf(addr: SocketAddr) -> Socket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = MaybeTlsStream::Plain(socket.connect(addr).await.unwrap());
    Socket(tokio_tungstenite::client_async(format!("ws://{addr}/stream"), stream).await.unwrap().0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_closed_and_slows_nobody() {
    let world = ApiWorld::with(|settings| settings.stream.write_timeout_ms = 500).await;
    let (slow, quick) = (world.customer("1000").await, world.customer("1000").await);
    let order = place(&slow, "padded").await;
    pad(&world, slow.account_id, order, 20_000).await;
    let addr = world.copy.api_addr;
    let mut unread = deaf(addr).await;
    unread.show(&slow).await;
    unread.listen(Some(START)).await;
    let mut beside = Socket::listening(addr, &slow).await;
    let mut other = Socket::listening(addr, &quick).await;
    // While the first is stuck, the others get theirs at once: one of the same account, one of another.
    for n in 0..5 {
        place(&slow, &format!("s-{n}")).await;
        place(&quick, &format!("q-{n}")).await;
        let (same, another) = (beside.update().await, other.update().await);
        assert_eq!((same.event, another.event), (TradeEventKind::PendingNew, TradeEventKind::PendingNew));
    }
    let told = tokio::time::timeout(PATIENCE, unread.closed_at_last()).await.unwrap();
    // It got a part, in order, and can come back for the rest.
    assert!(!told.is_empty() && told.len() < 20_001, "{}", told.len());
    let last = told.last().unwrap();
    assert_eq!(numbers(&told), (1..=i64::try_from(told.len()).unwrap()).collect::<Vec<_>>());
    let mut back = Socket::open(addr).await;
    back.show(&slow).await;
    back.listen(Some(&last.event_id)).await;
    assert_eq!(numbers(&[back.update().await])[0], i64::try_from(told.len()).unwrap() + 1);
}

impl Socket {
    /// Waits until the server has let go of the connection, then reads what is left of it.
    async fn closed_at_last(&mut self) -> Vec<TradeEvent> {
        // The server's patience is over; only then is the socket read.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut told = Vec::new();
        while let Some(Ok(frame)) = self.0.next().await {
            if let Message::Binary(bytes) = frame {
                let frame: Value = serde_json::from_slice(&bytes).unwrap();
                told.push(serde_json::from_value(frame["data"].clone()).unwrap());
            }
        }
        told
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_of_too_many_connections_of_a_key_goes_and_all_go_with_the_key() {
    let world = ApiWorld::with(|settings| settings.stream.connections_per_key_max = 2).await;
    let customer = world.customer("1000").await;
    let addr = world.copy.api_addr;
    let mut oldest = Socket::listening(addr, &customer).await;
    let mut second = Socket::listening(addr, &customer).await;
    let mut third = Socket::listening(addr, &customer).await;
    assert!(oldest.closed_with(1008).await.contains("newer connections"));
    revoke(&world, &customer).await;
    for socket in [&mut second, &mut third] {
        assert!(socket.closed_with(1008).await.contains("no longer valid"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_bounded_in_all_and_for_those_without_a_key() {
    let world = ApiWorld::with(|settings| {
        settings.stream.connections_max = 3;
        settings.stream.strangers_max = 1;
    })
    .await;
    let customer = world.customer("1000").await;
    let addr = world.copy.api_addr;
    let stranger = Socket::open(addr).await;
    let refused = tokio_tungstenite::connect_async(format!("ws://{addr}/stream")).await.unwrap_err().to_string();
    assert!(refused.contains("503"), "{refused}");
    drop(stranger);
    let in_again = || async { tokio_tungstenite::connect_async(format!("ws://{addr}/stream")).await.is_ok() };
    assert!(eventually(PATIENCE, in_again).await, "a place was not given back");
    let _one = Events::open(&customer, "").await;
    let _two = Events::open(&customer, "").await;
    let _three = Events::open(&customer, "").await;
    assert_eq!(customer.get("/v2/events/trades").await.failed_with(), (503, 50_310_000));
    // Orders go on.
    place(&customer, "one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_says_goodbye() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let other = world.another().await;
    let mut socket = Socket::listening(other.api_addr, &customer).await;
    let mut stranger = Socket::open(other.api_addr).await;
    let stopping = tokio::spawn(other.stop());
    assert!(socket.closed_with(1001).await.contains("going away"));
    stranger.closed_with(1001).await;
    stopping.await.unwrap();
}
