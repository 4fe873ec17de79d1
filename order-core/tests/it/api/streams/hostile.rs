//! What no client library sends.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_a_few_times_and_then_closed() {
    let world = ApiWorld::new().await;
    let addr = world.copy.api_addr;
    for nonsense in [
        Message::text("{"),
        Message::text("[]"),
        Message::text(r#"{"action":"delete_everything"}"#),
        Message::binary(vec![0xff_u8; 100]),
        Message::text("[".repeat(10_000)),
    ] {
        let mut socket = Socket::open(addr).await;
        for _ in 0..4 {
            socket.0.send(nonsense.clone()).await.unwrap();
            assert_eq!(socket.hear().await["action"], "error");
        }
        socket.0.send(nonsense.clone()).await.unwrap();
        assert!(socket.closed_with(1008).await.contains("without effect"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_big_whole_or_in_endless_parts_ends_the_connection() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let addr = world.copy.api_addr;
    let mut big = Socket::listening(addr, &customer).await;
    big.0.send(Message::text("x".repeat(20_000))).await.unwrap();
    big.closed_with(1009).await;
    let mut endless = Socket::listening(addr, &customer).await;
    let part = |opcode| Message::Frame(Frame::message(Bytes::from(vec![b'x'; 1000]), OpCode::Data(opcode), false));
    endless.0.send(part(Data::Text)).await.unwrap();
    let sending = async {
        // Until the server has had enough.
        while endless.0.send(part(Data::Continue)).await.is_ok() {}
    };
    assert!(tokio::time::timeout(PATIENCE, sending).await.is_ok(), "parts are taken for ever");
    // Others are not touched.
    let mut beside = Socket::listening(addr, &customer).await;
    place(&customer, "one").await;
    assert_eq!(beside.update().await.event, TradeEventKind::PendingNew);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_key_or_says_too_much_or_nothing_is_closed() {
    let world = ApiWorld::with(|settings| {
        settings.stream.auth_deadline_ms = 300;
        settings.stream.ping_interval_ms = 100;
        settings.stream.silence_max_ms = 400;
    })
    .await;
    let customer = world.customer("1000").await;
    let addr = world.copy.api_addr;
    assert!(Socket::open(addr).await.closed_with(1008).await.contains("no key"));
    let mut flood = Socket::listening(addr, &customer).await;
    let flooding = async { while flood.0.send(Message::Ping(Bytes::new())).await.is_ok() {} };
    assert!(tokio::time::timeout(PATIENCE, flooding).await.is_ok(), "a flood is taken for ever");
    // One that answers no ping: its bytes are read by the system alone.
    let mut silent = tokio::net::TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "GET /stream HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
        customer.head_lines()
    );
    silent.write_all(head.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    tokio::time::timeout(PATIENCE, silent.read_to_end(&mut said)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&said).contains("nothing was heard"));
    // One that answers stays.
    let mut lively = Socket::listening(addr, &customer).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(1);
    let _until = tokio::time::timeout_at(until, lively.hear()).await;
    place(&customer, "one").await;
    assert_eq!(lively.update().await.event, TradeEventKind::PendingNew);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_stays_with_its_key() {
    let world = ApiWorld::new().await;
    let (mine, theirs) = (world.customer("1000").await, world.customer("1000").await);
    let mut socket = Socket::listening(world.copy.api_addr, &mine).await;
    socket.show(&mine).await;
    let data = json!({"key_id": theirs.key_id, "secret_key": theirs.secret});
    socket.say(&json!({"action": "authenticate", "data": data})).await;
    assert!(socket.closed_with(1008).await.contains("another key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_upgrade_is_refused_in_the_dialects_shape() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    for path in ["/stream", "/stream/"] {
        assert_eq!(customer.get(path).await.failed_with(), (422, 40_010_001));
        assert_eq!(customer.delete(path).await.failed_with(), (405, 40_510_000));
    }
}
