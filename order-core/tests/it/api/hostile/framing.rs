//! Where one request ends and the next begins: what a proxy in front could see differently.

use super::{customer_with_order, exchange, nothing_changed, request};
use crate::api::{ApiWorld, Customer};

/// What an attacker would like to have taken as a request of its own.
fn hidden(victim: &Customer) -> String {
    request(victim, "DELETE /v2/orders HTTP/1.1", "", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_body_in_chunks_is_never_taken_as_a_request() {
    let world = ApiWorld::new().await;
    let (customer, _) = customer_with_order(&world).await;
    let lengths = ["content-length: 4\r\n", ""];
    for length in lengths {
        for lines in [
            format!("{length}transfer-encoding: chunked\r\n"),
            format!("transfer-encoding: chunked\r\n{length}"),
            format!("{length}Transfer-Encoding: identity, chunked\r\n"),
            format!("transfer-encoding: chunked\r\n{length}transfer-encoding: chunked\r\n"),
            format!("connection: keep-alive\r\n{length}transfer-encoding: chunked\r\n"),
        ] {
            let body = format!("0\r\n\r\n{}", hidden(&customer));
            let answers =
                exchange(world.copy.api_addr, request(&customer, "GET /v2/clock HTTP/1.1", &lines, &body)).await;
            assert!(answers.len() <= 1, "{lines}: {answers:?}");
            assert!(answers.iter().all(|answer| answer.status == 400 || answer.ends_the_connection()), "{answers:?}");
        }
    }
    nothing_changed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_or_encoding_that_can_be_read_in_two_ways_is_refused_and_ends_the_connection() {
    let world = ApiWorld::new().await;
    let (customer, _) = customer_with_order(&world).await;
    for lines in [
        "content-length: 0\r\ncontent-length: 4\r\n",
        "content-length: 0, 0\r\n",
        "content-length: +0\r\n",
        "content-length: -1\r\n",
        "content-length: 0x0\r\n",
        "content-length: 18446744073709551616\r\n",
        "content-length: 0\r\n 4\r\n",
        "content-length : 0\r\n",
        "content length: 0\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: \x0bchunked\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "transfer-encoding : chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "x: a\rb\r\n",
        "x: a\0b\r\n",
        "x\0: a\r\n",
        "no colon\r\n",
        ": no name\r\n",
    ] {
        let bytes = request(&customer, "POST /v2/orders HTTP/1.1", lines, &hidden(&customer));
        let answers = exchange(world.copy.api_addr, bytes).await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [400], "{lines:?}");
    }
    nothing_changed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_none_make_no_order_and_end_the_connection() {
    let world = ApiWorld::new().await;
    let (customer, _) = customer_with_order(&world).await;
    let order = crate::api::buy("chunked", "1", "1").to_string();
    let whole = format!("{:x}\r\n{order}\r\n", order.len());
    let lines = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
    for body in [
        format!("zz\r\n{order}\r\n0\r\n\r\n"),
        format!("-1\r\n{order}\r\n0\r\n\r\n"),
        format!("ffffffffffffffff1\r\n{order}\r\n0\r\n\r\n"),
        format!("0x{whole}0\r\n\r\n"),
        format!("{whole}zz\r\n\r\n"),
        format!("{:x}\r\n{order}XX0\r\n\r\n", order.len()),
        format!("{:x};{}\r\n{order}\r\n0\r\n\r\n", order.len(), "x".repeat(100_000)),
        format!("{whole}0\r\n{}\r\n", "x: y\r\n".repeat(10_000)),
    ] {
        let bytes = request(&customer, "POST /v2/orders HTTP/1.1", lines, &body) + &hidden(&customer);
        let answers = exchange(world.copy.api_addr, bytes).await;
        assert!(answers.len() <= 1, "{answers:?}");
        assert!(answers.iter().all(|answer| answer.status == 400), "{answers:?}");
    }
    nothing_changed(&world).await;
    // The whole of it is taken, so that the above fails for its own reasons.
    let bytes = request(&customer, "POST /v2/orders HTTP/1.1", lines, &format!("{whole}0\r\n\r\n"));
    assert_eq!(exchange(world.copy.api_addr, bytes).await[0].status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_versions_and_protocols_are_not_answered_as_if_they_were_http_1() {
    let world = ApiWorld::new().await;
    let (customer, _) = customer_with_order(&world).await;
    let tls_hello: &[u8] = &[0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x00, b'\r', b'\n', b'\r', b'\n'];
    for bytes in [
        b"GET /v2/clock\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        request(&customer, "DELETE /v2/orders HTTP/2.0", "", "").into_bytes(),
        request(&customer, "DELETE /v2/orders HTTP/1.2", "", "").into_bytes(),
        request(&customer, "DELETE /v2/orders http/1.1", "", "").into_bytes(),
        request(&customer, "DELETE  /v2/orders HTTP/1.1", "", "").into_bytes(),
        request(&customer, "DELETE /v2/ord ers HTTP/1.1", "", "").into_bytes(),
        request(&customer, "DELETE\t/v2/orders\tHTTP/1.1", "", "").into_bytes(),
        request(&customer, "DEL\0ETE /v2/orders HTTP/1.1", "", "").into_bytes(),
        b"\0".repeat(64),
        tls_hello.to_vec(),
        b"\r\n\r\n\r\nnonsense\r\n\r\n".to_vec(),
    ] {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let mut wire = super::Wire::to(world.copy.api_addr).await;
        wire.send(&bytes).await;
        // What waits for more is told that no more comes.
        let _hung_up = tokio::io::AsyncWriteExt::shutdown(&mut wire.stream).await;
        let answers = wire.all_answers().await;
        assert!(answers.len() <= 1 && answers.iter().all(|answer| answer.status == 400), "{shown:?}: {answers:?}");
    }
    nothing_changed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_one_packet_are_answered_in_turn_each_by_its_own_key() {
    let world = ApiWorld::new().await;
    let (one, other) = (world.customer("1").await, world.customer("2").await);
    let ask = |customer: &Customer, line: &str| request(customer, "GET /v2/account HTTP/1.1", line, "");
    let nobody = "GET /v2/account HTTP/1.1\r\nhost: api\r\n\r\n";
    let bytes = [ask(&one, ""), ask(&other, ""), nobody.to_owned(), ask(&one, "connection: close\r\n")].concat();
    let answers = exchange(world.copy.api_addr, bytes).await;
    let seen: Vec<_> = answers.iter().map(|answer| (answer.status, answer.json()["cash"].clone())).collect();
    assert_eq!(seen, [(200, "1".into()), (200, "2".into()), (401, serde_json::Value::Null), (200, "1".into())]);
}
