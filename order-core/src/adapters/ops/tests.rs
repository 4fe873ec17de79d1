use super::super::http::fakes::{Fake, LIMITS, World};
use super::super::secrets::SystemSecrets;
use super::*;
use crate::adapters::http::auth::hash_secret;
use crate::application::audit::Violation;
use crate::application::operator::{
    AccountMade, AccountRequest, Action, ActionRecord, HaltOutcome, HaltRecord, KeyRecord, KeyRotation,
};
use crate::application::query::QueryError;
use crate::application::query::{AccountView, ApiKey};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use contracts::Symbol;
use platform::config::Secret;
use platform::operators::OperatorTokens;
use time::OffsetDateTime;
use tower::ServiceExt;

const ALICE: &str = "alices-own-token";

struct CleanBooks;

#[async_trait::async_trait]
impl Audit for CleanBooks {
    async fn audit(&self) -> Result<Vec<Violation>, QueryError> {
        Ok(Vec::new())
    }
}

#[async_trait::async_trait]
impl Operations for Fake {
    async fn make_account(&self, account: &AccountRequest, _: OffsetDateTime) -> Result<AccountMade, QueryError> {
        Ok(if account.id == self.account {
            AccountMade::OtherCurrency(contracts::Currency::new("KRW").unwrap())
        } else {
            AccountMade::New("A2".to_owned())
        })
    }

    async fn accounts(&self, _: Option<AccountId>, _: i64) -> Result<Vec<AccountView>, QueryError> {
        Ok(Vec::new())
    }

    async fn issue_key(&self, key: &ApiKey, _: &Action, _: OffsetDateTime) -> Result<(), QueryError> {
        self.keys.lock().unwrap().insert(key.key_id.clone(), key.clone());
        Ok(())
    }

    async fn keys(&self, _: AccountId, _: Option<&str>, _: i64) -> Result<Vec<KeyRecord>, QueryError> {
        Ok(Vec::new())
    }

    async fn rotate_key(
        &self,
        _: &KeyRotation,
        _: &Action,
        _: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, QueryError> {
        Ok(None)
    }

    async fn revoke_key(&self, _: AccountId, _: &str, _: &Action, _: OffsetDateTime) -> Result<bool, QueryError> {
        Ok(false)
    }

    async fn halt(&self, _: Option<&Symbol>, action: &Action, _: OffsetDateTime) -> Result<HaltOutcome, QueryError> {
        self.actions.lock().unwrap().push(action.clone());
        Ok(HaltOutcome::Done)
    }

    async fn lift(&self, _: Option<&Symbol>, _: &Action, _: OffsetDateTime) -> Result<HaltOutcome, QueryError> {
        Ok(HaltOutcome::Already)
    }

    async fn halts(&self) -> Result<Vec<HaltRecord>, QueryError> {
        Ok(Vec::new())
    }

    async fn actions(&self, _: ActionFilter) -> Result<Vec<ActionRecord>, QueryError> {
        Ok(Vec::new())
    }
}

fn ops(world: &World) -> Router {
    let state = OpsState {
        commands: world.fake.clone(),
        queries: world.fake.clone(),
        operations: world.fake.clone(),
        audit: Arc::new(CleanBooks),
        clock: world.clock.clone(),
        ids: Arc::new(platform::clock::SystemIds),
        secrets: Arc::new(SystemSecrets),
    };
    let named = [("alice", ALICE)].map(|(name, token)| (name.to_owned(), Secret::new(token)));
    router(state, Operators::new(Secret::new("token"), OperatorTokens::new(named.into())), LIMITS)
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

#[tokio::test]
async fn an_account_that_exists_in_another_currency_is_no_repeat() {
    let world = World::new();
    let body = json!({"currency": "USD", "account_id": world.fake.account});
    let (status, answer) = send(&world, "POST", "/ops/v1/accounts", "token", &body).await;
    assert_eq!((status, answer["message"].as_str().unwrap()), (422, "the account has another currency"));
}

#[tokio::test]
async fn a_halt_names_who_and_why_and_a_token_of_ones_own_cannot_name_another() {
    let world = World::new();
    let uri = "/ops/v1/halts/symbols/AAPL/halt";
    for (token, body, problem) in [
        ("token", json!({"reason": "news"}), "operator is required"),
        ("token", json!({"operator": "kim"}), "reason is required"),
        ("token", json!({"operator": "kim", "reason": " "}), "reason must be"),
        ("token", json!({"operator": "kim\nlee", "reason": "news"}), "operator must be"),
        (ALICE, json!({"operator": "bob", "reason": "news"}), "operator must be the one"),
    ] {
        let (status, answer) = send(&world, "POST", uri, token, &body).await;
        assert!(status == 422 && answer["message"].as_str().unwrap().starts_with(problem), "{answer}");
    }
    assert_eq!(send(&world, "POST", uri, "token", &json!({"operator": "kim", "reason": "news"})).await.0, 200);
    assert_eq!(send(&world, "POST", uri, ALICE, &json!({"reason": "news"})).await.0, 200);
    let actions = world.fake.actions.lock().unwrap();
    let who: Vec<_> = actions.iter().map(|a| (a.actor.name.as_str(), a.actor.credential.as_str())).collect();
    assert_eq!(who, [("kim", "ops"), ("alice", "alice")]);
}
