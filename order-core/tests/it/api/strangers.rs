//! What one account's key can learn of another account: nothing, on any route.

use super::{ApiWorld, Customer, OPS_TOKEN, buy, send};
use reqwest::Method;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a route is tried.
enum Probe {
    /// It names something: another account's, and one that nobody has.
    Names { theirs: String, nobodys: &'static str },
    /// It names nothing of an account.
    Own(&'static str),
    /// It answers without end. `a_stream_tells_of_nobody_elses_orders` looks at what it says.
    Stream,
}

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

const NOBODYS_ID: &str = "61e69015-8549-4bfd-b9c3-01e75843f47d";
const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Every route of the order API. A new one belongs here.
fn probe(route: &str, order_id: &str, client_order_id: &str) -> Option<Probe> {
    let names = |theirs: &str, nobodys| Some(Probe::Names { theirs: theirs.to_owned(), nobodys });
    match route {
        "/v2/orders" => Some(Probe::Own("/v2/orders?status=all&limit=500")),
        "/v2/orders:by_client_order_id" => Some(Probe::Names {
            theirs: format!("/v2/orders:by_client_order_id?client_order_id={client_order_id}"),
            nobodys: "/v2/orders:by_client_order_id?client_order_id=nobodys-name",
        }),
        "/v2/orders/{order_id}" => {
            names(&format!("/v2/orders/{order_id}"), "/v2/orders/61e69015-8549-4bfd-b9c3-01e75843f47d")
        }
        "/v2/account" => Some(Probe::Own("/v2/account")),
        "/v2/positions" => Some(Probe::Own("/v2/positions")),
        // Held by the other account, and held by nobody.
        "/v2/positions/{symbol_or_id}" => names("/v2/positions/AAPL", "/v2/positions/QUIET"),
        "/v2/assets" => Some(Probe::Own("/v2/assets")),
        "/v2/assets/{symbol_or_id}" => Some(Probe::Own("/v2/assets/AAPL")),
        "/v2/clock" => Some(Probe::Own("/v2/clock")),
        "/v2/calendar" => Some(Probe::Own("/v2/calendar")),
        "/v2/events/trades" | "/stream" | "/stream/" => Some(Probe::Stream),
        _ => None,
    }
}

/// Every route in the sources of the order API.
fn routes() -> Vec<String> {
    let mut files = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/adapters/http.rs"))];
    list(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/adapters/http")), &mut files);
    let mut routes = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let parts = text.split(".route(").skip(1);
        routes.extend(parts.map(|part| part.split('"').nth(1).unwrap().to_owned()));
    }
    routes
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}

/// Status and body, with the name that was asked for taken out.
async fn told(customer: &Customer, method: &Method, path: &str) -> (u16, String) {
    let request = customer.request(method.clone(), path).header("content-type", "application/json").body("{}");
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let name = path.rsplit(['/', '=']).next().unwrap();
    (status, response.text().await.unwrap().replace(name, "NAME"))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_accounts_orders_and_holdings_do_not_exist_on_any_route() {
    let world = ApiWorld::new().await;
    let (owner, stranger) = (world.customer("1000").await, world.customer("1000").await);
    let order_id = owner.post(&buy("owners-name", "1", "1")).await.id().to_owned();
    sqlx::query("insert into positions (account_id, symbol, shares_available) values ($1, 'AAPL', 5)")
        .bind(owner.account_id.as_uuid())
        .execute(&world.database.pool)
        .await
        .unwrap();
    let secrets = [order_id.as_str(), "owners-name", &owner.account_id.to_string(), &owner.key_id, &owner.secret];
    let routes = routes();
    assert!(routes.len() >= 10, "{routes:?}");
    for route in routes {
        let probe = probe(&route, &order_id, "owners-name");
        let probe = probe.unwrap_or_else(|| panic!("{route} is new: say how a stranger is kept out of it"));
        for method in &METHODS {
            match &probe {
                Probe::Names { theirs, nobodys } => {
                    let (theirs, nobodys) =
                        (told(&stranger, method, theirs).await, told(&stranger, method, nobodys).await);
                    assert_eq!(theirs, nobodys, "{method} {route} tells that it exists");
                    assert!(matches!(theirs.0, 404 | 405), "{method} {route}: {theirs:?}");
                }
                Probe::Own(path) => {
                    let (_, text) = told(&stranger, method, path).await;
                    for secret in secrets {
                        assert!(!text.contains(secret), "{method} {route} tells {secret}: {text}");
                    }
                }
                Probe::Stream => {}
            }
        }
    }
    assert_eq!(owner.get("/v2/positions/AAPL").await.status, 200, "there was something to find");
    let kept = owner.get(&format!("/v2/orders/{order_id}")).await;
    assert_eq!((&kept.body["status"], &kept.body["canceled_at"]), (&json!("pending_new"), &json!(null)));
    assert_eq!(world.count("select count(*) from orders where cancel_requests > 0").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_accounts_order_is_no_place_in_a_list() {
    let world = ApiWorld::new().await;
    let (owner, stranger) = (world.customer("1000").await, world.customer("1000").await);
    let theirs = owner.post(&buy("a", "1", "1")).await.id().to_owned();
    stranger.post(&buy("b", "1", "1")).await;
    for name in ["before_order_id", "after_order_id"] {
        let (of_theirs, of_nobodys) = (
            told(&stranger, &Method::GET, &format!("/v2/orders?{name}={theirs}")).await,
            told(&stranger, &Method::GET, &format!("/v2/orders?{name}={NOBODYS_ID}")).await,
        );
        assert_eq!(of_theirs, of_nobodys);
        assert_eq!(of_theirs.0, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_another_account_uses_is_free() {
    let world = ApiWorld::new().await;
    let (owner, stranger) = (world.customer("1000").await, world.customer("1000").await);
    let theirs = owner.post(&buy("same", "1", "1")).await;
    // Other terms: had the name been taken, this would be refused as a duplicate, or replayed.
    let mine = stranger.post(&buy("same", "2", "2")).await;
    assert_eq!((mine.status, mine.replayed), (200, false));
    assert_ne!(mine.id(), theirs.id());
    assert_eq!(stranger.get("/v2/orders:by_client_order_id?client_order_id=same").await.id(), mine.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_one_key_and_half_of_another_is_no_key() {
    let world = ApiWorld::new().await;
    let (one, other) = (world.customer("1").await, world.customer("2").await);
    let url = format!("http://{}/v2/account", world.copy.api_addr);
    for (key_id, secret) in [
        (&one.key_id, &other.secret),
        (&other.key_id, &one.secret),
        (&one.key_id, &one.key_id),
        (&one.key_id.to_lowercase(), &one.secret),
        (&format!("{} ", one.key_id), &other.secret),
    ] {
        let request = world.client.get(&url).header("apca-api-key-id", key_id).header("apca-api-secret-key", secret);
        assert_eq!(send(request).await.failed_with(), (401, 40_110_000));
        assert_eq!(
            send(world.client.get(&url).basic_auth(key_id, Some(secret))).await.failed_with(),
            (401, 40_110_000)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_stands_in_for_another() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let (api, ops) = (world.copy.api_addr, world.copy.ops_addr);
    let account = format!("/ops/v1/accounts/{}", customer.account_id);
    let get = |addr, path: &str| world.client.get(format!("http://{addr}{path}"));
    let refused = (401, 40_110_000);
    for path in [&account, "/ops/v1/audit", "/ops/v1/parked"] {
        for token in ["peer-token", &customer.secret, "", "ops-toke", "ops-tokenn"] {
            assert_eq!(send(get(ops, path).bearer_auth(token)).await.failed_with(), refused, "{path} {token:?}");
        }
        let basic = get(ops, path).basic_auth(&customer.key_id, Some(&customer.secret));
        assert_eq!(send(basic).await.failed_with(), refused, "{path}");
        assert_eq!(send(get(ops, path).basic_auth("ops", Some(OPS_TOKEN))).await.failed_with(), refused, "{path}");
    }
    for path in ["/feed/heads", "/feed/0?after=0&limit=10"] {
        for token in [OPS_TOKEN, &customer.secret, ""] {
            assert_eq!(send(get(ops, path).bearer_auth(token)).await.failed_with(), refused, "{path} {token:?}");
        }
        assert_eq!(send(get(ops, path).bearer_auth("peer-token")).await.status, 200);
    }
    for token in [OPS_TOKEN, "peer-token"] {
        for path in ["/v2/account", "/v2/orders", "/ops/v1/audit", "/feed/heads", "/metrics", "/ops/v1/health"] {
            assert_eq!(send(get(api, path).bearer_auth(token)).await.failed_with(), refused, "{path} {token:?}");
        }
    }
    // The order API is no part of the operators' port either.
    assert_eq!(send(get(ops, "/v2/account").bearer_auth(OPS_TOKEN)).await.status, 404);
}

/// What a stream of events says until it has said `text`.
async fn told_until(customer: &Customer, path: &str, text: &str) -> String {
    let mut response = customer.request(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    let mut said = String::new();
    while !said.contains(text) {
        let part = tokio::time::timeout(PATIENCE, response.chunk()).await.unwrap().unwrap();
        said.push_str(std::str::from_utf8(&part.unwrap()).unwrap());
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_of_nobody_elses_orders_and_their_cursors_are_nobodys() {
    let world = ApiWorld::new().await;
    let (owner, stranger) = (world.customer("1000").await, world.customer("1000").await);
    owner.post(&buy("owners-name", "1", "1")).await;
    stranger.post(&buy("strangers-name", "1", "1")).await;
    let path = "/v2/events/trades?since=2020-01-01";
    let told_to_stranger = told_until(&stranger, path, "strangers-name").await;
    assert!(!told_to_stranger.contains("owners-name"), "{told_to_stranger}");
    let told_to_owner = told_until(&owner, path, "owners-name").await;
    let theirs = told_to_owner.split("\"event_id\":\"").nth(1).unwrap().split('"').next().unwrap();
    let kept: String = theirs.chars().take(theirs.len() - 1).collect();
    let invented = format!("{kept}{}", if theirs.ends_with('Z') { 'Y' } else { 'Z' });
    let cursor = |id: &str| format!("/v2/events/trades?since_id={id}");
    let (of_theirs, of_nobodys) =
        (told(&stranger, &Method::GET, &cursor(theirs)).await, told(&stranger, &Method::GET, &cursor(&invented)).await);
    assert_eq!(of_theirs, of_nobodys);
    assert_eq!(of_theirs.0, 422);
}
