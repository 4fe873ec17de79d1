//! Clients that are many, slow, or large.

use super::{Wire, exchange, request};
use crate::api::{ApiWorld, Customer};
use platform::testing::eventually;
use std::io::ErrorKind;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn ask(customer: &Customer) -> String {
    request(customer, "GET /v2/account HTTP/1.1", "", "")
}

async fn is_served(wire: &mut Wire, customer: &Customer) -> bool {
    wire.send(ask(customer)).await;
    wire.answer().await.is_some_and(|answer| answer.status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_connections_open_ones_go_on_and_new_ones_wait_their_turn() {
    let world = ApiWorld::with(|settings| {
        settings.http.connections_max = 2;
        settings.http.connections_per_address_max = 2;
    })
    .await;
    let customer = world.customer("1000").await;
    let (mut first, mut second) = (Wire::to(world.copy.api_addr).await, Wire::to(world.copy.api_addr).await);
    assert!(is_served(&mut first, &customer).await && is_served(&mut second, &customer).await);
    let mut third = Wire::to(world.copy.api_addr).await;
    third.send(ask(&customer)).await;
    for _ in 0..20 {
        assert!(is_served(&mut first, &customer).await);
    }
    let waits = third.stream.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(waits.kind(), ErrorKind::WouldBlock);
    drop(second);
    assert_eq!(third.answer().await.unwrap().status, 200);
    assert!(is_served(&mut first, &customer).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_too_many_connections_loses_the_new_ones_and_takes_nobody_elses() {
    let world = ApiWorld::with(|settings| settings.http.connections_per_address_max = 2).await;
    let customer = world.customer("1000").await;
    let addr = world.copy.api_addr;
    let (mut first, mut second) = (Wire::to(addr).await, Wire::to(addr).await);
    assert!(is_served(&mut first, &customer).await && is_served(&mut second, &customer).await);
    for _ in 0..50 {
        assert!(!is_served(&mut Wire::to(addr).await, &customer).await);
    }
    assert!(is_served(&mut first, &customer).await && is_served(&mut second, &customer).await);
    assert!(is_served(&mut Wire::from("127.0.0.2:0", addr).await, &customer).await);
    drop(second);
    let again = eventually(LONG, || async { is_served(&mut Wire::to(addr).await, &customer).await });
    assert!(again.await, "the place was not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_hung_up_on() {
    let world = ApiWorld::with(|settings| settings.http.write_stall_max_ms = 1_000).await;
    let customer = world.customer("1000").await;
    let mut wire = Wire::to(world.copy.api_addr).await;
    // Far more than the buffers of both sides take.
    let large = request(&customer, "GET /v2/calendar?start=2020-01-01&end=2029-12-31 HTTP/1.1", "", "");
    wire.send(large.repeat(100)).await;
    let hung_up = eventually(LONG, || async {
        wire.stream.try_write(b" ").is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
    });
    assert!(hung_up.await, "the connection is still held");
    let (mut whole, addr) = (0, world.copy.api_addr);
    while wire.answer().await.is_some() {
        whole += 1;
    }
    assert!(whole < 100, "all answers had room in the buffers: the test shows nothing");
    assert!(is_served(&mut Wire::to(addr).await, &customer).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_to_an_end_is_hung_up_on() {
    let world = ApiWorld::with(|settings| settings.http.header_timeout_ms = 300).await;
    for bytes in ["", "G", "GET /v2/clock HTTP/1.1\r\n", "GET /v2/clock HTTP/1.1\r\nhost: api\r\nx: "] {
        assert!(exchange(world.copy.api_addr, bytes).await.iter().all(|answer| answer.status >= 400), "{bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let world = ApiWorld::with(|settings| settings.http.body_timeout_ms = 300).await;
    let customer = world.customer("1000").await;
    let lines = "content-type: application/json\r\ncontent-length: 100\r\n";
    let slow = exchange(world.copy.api_addr, request(&customer, "POST /v2/orders HTTP/1.1", lines, "{")).await;
    assert_eq!(slow.iter().map(|answer| answer.status).collect::<Vec<_>>(), [408]);
    assert!(slow[0].ends_the_connection());
    let stranger = format!("POST /v2/orders HTTP/1.1\r\nhost: api\r\n{lines}\r\n");
    let refused = exchange(world.copy.api_addr, stranger).await;
    assert_eq!(refused.iter().map(|answer| answer.status).collect::<Vec<_>>(), [401]);
    assert_eq!(world.count("select count(*) from orders").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_above_the_limits_are_refused() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let addr = world.copy.api_addr;
    for (line, lines) in [
        (format!("GET /v2/orders?{} HTTP/1.1", "x".repeat(40_000)), String::new()),
        ("GET /v2/orders HTTP/1.1".to_owned(), format!("x: {}\r\n", "y".repeat(40_000))),
        ("GET /v2/orders HTTP/1.1".to_owned(), format!("{}: y\r\n", "x".repeat(40_000))),
        ("GET /v2/orders HTTP/1.1".to_owned(), "x: y\r\n".repeat(100)),
        (format!("{} /v2/orders HTTP/1.1", "X".repeat(40_000)), String::new()),
    ] {
        let answers = exchange(addr, request(&customer, &line, &lines, "")).await;
        let shown: String = line.chars().take(40).collect();
        assert!(answers.iter().all(|answer| matches!(answer.status, 400 | 414 | 431)), "{shown}: {answers:?}");
        assert!(answers.len() <= 1, "{shown}");
    }
    let lines = format!("{}connection: close\r\n", "x: y\r\n".repeat(80));
    assert_eq!(exchange(addr, request(&customer, "GET /v2/orders HTTP/1.1", &lines, "")).await[0].status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_before_it_sends_is_refused_before_it_sends() {
    let world = ApiWorld::new().await;
    let lines = "expect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: 100\r\n";
    let stranger = format!("POST /v2/orders HTTP/1.1\r\nhost: api\r\n{lines}\r\n");
    let answers = exchange(world.copy.api_addr, stranger).await;
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [401]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_while_its_order_is_being_sent_places_nothing() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let body = crate::api::buy("late", "1", "1").to_string();
    let (most, last) = body.split_at(body.len() - 1);
    let lines = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let mut wire = Wire::to(world.copy.api_addr).await;
    wire.send(request(&customer, "POST /v2/orders HTTP/1.1", &lines, most)).await;
    assert_eq!(customer.get("/v2/account").await.status, 200);
    sqlx::query("update api_keys set revoked_at = now() where key_id = $1")
        .bind(&customer.key_id)
        .execute(&world.database.pool)
        .await
        .unwrap();
    assert!(eventually(LONG, || async { customer.get("/v2/account").await.status == 401 }).await);
    wire.send(last).await;
    assert_eq!(wire.answer().await.unwrap().status, 401);
    assert_eq!(world.count("select count(*) from orders").await, 0);
}
