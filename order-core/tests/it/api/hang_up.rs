//! Clients that go away in the middle of a request.

use super::{ApiWorld, Customer, buy};
use platform::testing::eventually;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

fn request(customer: &Customer, n: usize) -> Vec<u8> {
    let body = buy(&format!("c-{n}"), "1", "1").to_string();
    let head = format!(
        "POST /v2/orders HTTP/1.1\r\nhost: x\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        customer.head_lines(),
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

/// Sends the first `len` bytes of a request and goes away.
fn send_part(addr: SocketAddr, bytes: &[u8], len: usize) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(&bytes[..len.min(bytes.len())]).unwrap();
}

fn locks_held(url: &str) -> String {
    let mut stream = TcpStream::connect(url.trim_start_matches("redis://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"KEYS oor:v1:lock:*\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_no_lock_and_no_half_order() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let addr = world.copy.api_addr;
    let sender = customer.clone();
    let sending = tokio::task::spawn_blocking(move || {
        for n in 0..100 {
            let bytes = request(&sender, n);
            // Half of them in the middle of the request, the others while the order is decided.
            let len = if n % 2 == 0 { bytes.len() } else { bytes.len() * (n + 1) / 101 };
            send_part(addr, &bytes, len);
        }
    });
    sending.await.unwrap();
    // The account is free at once: an order behind all of these goes through.
    assert_eq!(customer.post(&buy("last", "1", "1")).await.status, 200);
    let redis = world.redis.url();
    assert!(eventually(Duration::from_secs(10), || async { locks_held(&redis) == "*0" }).await, "a lock stayed");
    let halves = "select count(*) from orders o where not exists (select from event_log e where e.order_id = o.id)";
    assert_eq!(world.count(halves).await, 0);
    world.audit().await;
    // Each that was taken can be found and replayed by its name; none was made from half a request.
    let taken = world.count("select count(*) from orders").await;
    let whole = world
        .count("select count(*) from orders where client_order_id = 'last' or substr(client_order_id, 3)::int % 2 = 0")
        .await;
    assert_eq!(taken, whole);
}
