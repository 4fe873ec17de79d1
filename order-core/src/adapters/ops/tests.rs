use super::super::http::fakes::{LIMITS, World};
use super::super::secrets::SystemSecrets;
use super::*;
use crate::application::audit::Violation;
use crate::application::query::QueryError;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt;

struct CleanBooks;

#[async_trait::async_trait]
impl Audit for CleanBooks {
    async fn audit(&self) -> Result<Vec<Violation>, QueryError> {
        Ok(Vec::new())
    }
}

fn ops(world: &World) -> Router {
    let state = OpsState {
        commands: world.fake.clone(),
        queries: world.fake.clone(),
        admin: world.fake.clone(),
        audit: Arc::new(CleanBooks),
        clock: world.clock.clone(),
        ids: Arc::new(platform::clock::SystemIds),
        secrets: Arc::new(SystemSecrets),
    };
    router(state, Secret::new("token"), LIMITS)
}

async fn send(world: &World, method: &str, uri: &str, token: &str, body: &Value) -> (u16, Value) {
    let request = Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {token}"));
    let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
    let response = ops(world).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

fn path(world: &World, rest: &str) -> String {
    format!("/ops/v1/accounts/{}{rest}", world.fake.account)
}

#[tokio::test]
async fn nothing_is_served_without_the_operators_token() {
    let world = World::new();
    for (method, uri) in [("POST", "/ops/v1/accounts"), ("GET", "/ops/v1/audit")] {
        assert_eq!(send(&world, method, uri, "wrong", &json!({})).await.0, 401);
        assert_eq!(send(&world, method, uri, "", &json!({})).await.0, 401);
    }
}

#[tokio::test]
async fn an_account_is_made_with_the_id_that_was_given() {
    let world = World::new();
    let id = "61e69015-8549-4bfd-b9c3-01e75843f47d";
    let body = json!({"currency": "USD", "account_id": id});
    let (status, account) = send(&world, "POST", "/ops/v1/accounts", "token", &body).await;
    assert_eq!((status, &account["account_id"]), (201, &json!(id)));
    let (status, _) = send(&world, "POST", "/ops/v1/accounts", "token", &json!({"currency": "KRW"})).await;
    assert_eq!(status, 422);
}

#[tokio::test]
async fn a_deposit_is_booked_once_per_reference() {
    let world = World::new();
    let uri = path(&world, "/deposits");
    let body = json!({"amount": "1000000", "currency": "USD", "reference": "d-1"});
    for _ in 0..2 {
        assert_eq!(send(&world, "POST", &uri, "token", &body).await.0, 200);
    }
    let other = json!({"amount": 7, "currency": "USD", "reference": "d-1"});
    assert_eq!(send(&world, "POST", &uri, "token", &other).await.0, 409);
    assert_eq!(world.fake.deposits.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn bad_deposits_are_refused_by_name() {
    let world = World::new();
    for (name, value) in [
        ("amount", json!("0")),
        ("amount", json!(-1)),
        ("amount", json!("0.001")),
        ("amount", json!("NaN")),
        ("amount", json!("1e20")),
        ("amount", Value::Null),
        ("currency", json!("usd")),
        ("reference", json!("")),
        ("reference", json!("a\u{0}")),
    ] {
        let mut body = json!({"amount": "1", "currency": "USD", "reference": "d-1"});
        body[name] = value;
        let (status, answer) = send(&world, "POST", &path(&world, "/deposits"), "token", &body).await;
        assert_eq!(status, 422, "{body}");
        assert!(answer["message"].as_str().unwrap().starts_with(name), "{answer}");
    }
}

#[tokio::test]
async fn a_key_is_stored_only_as_the_hash_of_its_secret() {
    let world = World::new();
    let (status, key) = send(&world, "POST", &path(&world, "/keys"), "token", &json!({})).await;
    assert_eq!(status, 201);
    let (key_id, secret) = (key["key_id"].as_str().unwrap(), key["secret_key"].as_str().unwrap());
    assert!(key_id.starts_with("PK") && secret.len() == 43);
    assert_eq!(world.fake.keys.lock().unwrap()[key_id].secret_sha256, hash_secret(secret));
    let missing = "/ops/v1/accounts/61e69015-8549-4bfd-b9c3-01e75843f47d/keys";
    assert_eq!(send(&world, "POST", missing, "token", &json!({})).await.0, 404);
}

#[tokio::test]
async fn an_account_shows_every_bucket() {
    let world = World::new();
    world.hold("AAPL", 3, 300);
    let (status, account) = send(&world, "GET", &path(&world, ""), "token", &json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(account["cash"], json!({"available": "900", "held": "100", "shortfall": "0"}));
    assert_eq!(
        (&account["positions"][0]["symbol"], &account["positions"][0]["shares"]["available"]),
        (&json!("AAPL"), &json!("3"))
    );
}
