//! Paths, methods and headers that mean something else elsewhere.

use super::{Raw, customer_with_order, exchange, nothing_changed, request};
use crate::api::ApiWorld;

async fn one(world: &ApiWorld, bytes: String) -> Raw {
    let shown = bytes.clone();
    let mut answers = exchange(world.copy.api_addr, bytes).await;
    assert_eq!(answers.len(), 1, "{shown}: {answers:?}");
    answers.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_what_is_written_and_nothing_near_it() {
    let world = ApiWorld::new().await;
    let (customer, id) = customer_with_order(&world).await;
    for path in [
        "//v2/account".to_owned(),
        "/v2//account".to_owned(),
        "/v2/./account".to_owned(),
        "/v2/account/".to_owned(),
        "/v2/account/.".to_owned(),
        "/V2/account".to_owned(),
        "/v2/Account".to_owned(),
        "/v2/account%00".to_owned(),
        "/v2/account%20".to_owned(),
        "/v2/account;x=1".to_owned(),
        "/v2/%61ccount".to_owned(),
        "/v2%2faccount".to_owned(),
        "/v2/positions/../account".to_owned(),
        "/v2/positions/%2e%2e/account".to_owned(),
        "/v2/positions/..%2faccount".to_owned(),
        "/v2/../ops/v1/audit".to_owned(),
        "/v2/%2e%2e/ops/v1/audit".to_owned(),
        "/v2/..%5c..%5cops/v1/audit".to_owned(),
        "/ops/v1/audit".to_owned(),
        "/ops/v1/health".to_owned(),
        "/ops/v1/accounts".to_owned(),
        "/metrics".to_owned(),
        "/feed/heads".to_owned(),
        "/feed/0?after=0".to_owned(),
        "/reference/v1/instruments".to_owned(),
        "/v2/orders/%00".to_owned(),
        "/v2/orders/%ff".to_owned(),
        "/v2/orders/..".to_owned(),
        format!("/v2/orders/{id}%00"),
        format!("/v2/orders/{id}%2f"),
        format!("/v2/orders/{id}/"),
        format!("/v2/orders/{id};v=1"),
        format!("/v2/orders/%20{id}"),
        format!("/v2/orders:{id}"),
        "*".to_owned(),
    ] {
        for method in ["GET", "DELETE"] {
            let bytes = request(&customer, &format!("{method} {path} HTTP/1.1"), "connection: close\r\n", "");
            let answer = one(&world, bytes).await;
            assert!(matches!(answer.status, 400 | 404 | 405 | 422), "{method} {path}: {answer:?}");
        }
    }
    nothing_changed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_decides_nothing() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let keys = customer.head_lines();
    for head in [
        format!("GET http://ops.internal/v2/account HTTP/1.1\r\nhost: api\r\n{keys}"),
        format!("GET http://user:pass@[::1]:1/v2/account HTTP/1.1\r\nhost: api\r\n{keys}"),
        format!("GET /v2/account HTTP/1.1\r\nhost: localhost:8081\r\nhost: other\r\n{keys}"),
        format!("GET /v2/account HTTP/1.1\r\nx-forwarded-host: ops.internal\r\n{keys}"),
        format!("GET /v2/account HTTP/1.0\r\n{keys}"),
    ] {
        let answer = one(&world, format!("{head}connection: close\r\n\r\n")).await;
        assert_eq!((answer.status, &answer.json()["cash"]), (200, &"1000".into()), "{head}");
        assert!(!answer.head.contains("internal") && !answer.head.contains("localhost"), "{answer:?}");
    }
    for head in ["GET http://api/ops/v1/audit HTTP/1.1\r\nhost: ops\r\n", "GET http:/v2/account HTTP/1.1\r\n"] {
        let answer = one(&world, format!("{head}{keys}connection: close\r\n\r\n")).await;
        assert!(matches!(answer.status, 400 | 404), "{head}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_is_what_is_written_and_headers_cannot_change_it() {
    let world = ApiWorld::new().await;
    let (customer, id) = customer_with_order(&world).await;
    let path = format!("/v2/orders/{id}");
    for name in ["x-http-method-override", "x-http-method", "x-method-override", "_method"] {
        let lines = format!("connection: close\r\n{name}: DELETE\r\n");
        assert_eq!(one(&world, request(&customer, &format!("GET {path} HTTP/1.1"), &lines, "")).await.status, 200);
        let asked = format!("GET {path}?_method=DELETE HTTP/1.1");
        assert_eq!(one(&world, request(&customer, &asked, &lines, "")).await.status, 200);
        let posted = one(&world, request(&customer, &format!("POST {path} HTTP/1.1"), &lines, "")).await;
        assert_eq!(posted.status, 405);
    }
    for lines in ["x-original-url: /v2/orders\r\n", "x-rewrite-url: /v2/orders\r\n"] {
        let lines = format!("{lines}connection: close\r\n");
        assert_eq!(one(&world, request(&customer, "DELETE /v2/account HTTP/1.1", &lines, "")).await.status, 405);
    }
    nothing_changed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_traced_back_tunnelled_or_upgraded() {
    let world = ApiWorld::new().await;
    let (customer, _) = customer_with_order(&world).await;
    let upgrade = "connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n";
    for (line, lines) in [
        ("TRACE /v2/account HTTP/1.1", "connection: close\r\n"),
        ("CONNECT 127.0.0.1:22 HTTP/1.1", "connection: close\r\n"),
        ("CONNECT /v2/account HTTP/1.1", "connection: close\r\n"),
        ("OPTIONS * HTTP/1.1", "connection: close\r\n"),
        ("OPTIONS /v2/orders HTTP/1.1", "connection: close\r\norigin: http://elsewhere\r\n"),
        ("PROPFIND /v2/account HTTP/1.1", "connection: close\r\n"),
    ] {
        let answer = one(&world, request(&customer, line, lines, "")).await;
        assert!(matches!(answer.status, 400 | 404 | 405), "{line}: {answer:?}");
        let text = format!("{}{}", answer.head, answer.body);
        assert!(!text.contains(&customer.secret) && !text.contains("access-control"), "{line}: {answer:?}");
    }
    let mut wire = super::Wire::to(world.copy.api_addr).await;
    wire.send(request(&customer, "GET /v2/account HTTP/1.1", upgrade, "")).await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    nothing_changed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_a_header_is_nobodys_address() {
    let world = ApiWorld::with(|settings| {
        settings.limits.auth_failures_per_minute = 1;
        settings.limits.auth_failures_burst = 3;
    })
    .await;
    let mut statuses = Vec::new();
    for n in 0..5 {
        let lines = format!(
            "x-forwarded-for: 192.0.2.{n}\r\nforwarded: for=192.0.2.{n}\r\nx-real-ip: 192.0.2.{n}\r\n\
             apca-api-key-id: PK{n}\r\napca-api-secret-key: guess\r\nconnection: close\r\n"
        );
        let answer = one(&world, format!("GET /v2/account HTTP/1.1\r\nhost: api\r\n{lines}\r\n")).await;
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
}
