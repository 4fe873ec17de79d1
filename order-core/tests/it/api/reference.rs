//! Assets and prices from the gateway.

use super::ApiWorld;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use platform::clock::SystemClock;
use platform::testing::eventually;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

type List = Arc<Mutex<Value>>;

async fn instruments(State(list): State<List>, headers: HeaderMap) -> Json<Value> {
    assert_eq!(headers["authorization"], "Bearer peer-token");
    Json(list.lock().unwrap().clone())
}

async fn gateway(list: &List) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/reference/v1/instruments", get(instruments)).with_state(Arc::clone(list));
    (url, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

fn row(symbol: &str, price: &str, at: OffsetDateTime) -> Value {
    json!({"id": "61e69015-8549-4bfd-b9c3-01e75843f47d", "symbol": symbol, "name": symbol, "exchange": "XNEW",
           "tradable": true, "fractionable": true, "last_price": price, "price_at": at.format(&Rfc3339).unwrap()})
}

fn market() -> Value {
    json!({"symbol": "TSLA", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_lists_is_traded_at_its_prices_and_outlives_it() {
    let list: List = Arc::new(Mutex::new(json!([])));
    let (url, serving) = gateway(&list).await;
    let world = ApiWorld::beside(&url, "always", Arc::new(SystemClock)).await;
    let customer = world.customer("1000").await;
    assert_eq!(customer.post(&market()).await.failed_with(), (503, 50_310_000));

    let stale = OffsetDateTime::now_utc() - Duration::from_secs(3600);
    *list.lock().unwrap() = json!([{"id": "a row that cannot be read"}, row("TSLA", "200", stale)]);
    let listed = || async { customer.get("/v2/assets/TSLA").await.status == 200 };
    assert!(eventually(Duration::from_secs(10), listed).await);
    assert_eq!(customer.post(&market()).await.failed_with(), (503, 50_310_000));
    assert_eq!(customer.get("/v2/assets/TSLA").await.body["exchange"], "");

    *list.lock().unwrap() = json!([row("TSLA", "200", OffsetDateTime::now_utc())]);
    let taken = || async { customer.post(&market()).await.status == 200 };
    assert!(eventually(Duration::from_secs(10), taken).await);
    assert_eq!(customer.account().await["buying_power"], "790");
    assert_eq!(world.count("select count(*) from assets where symbol = 'TSLA'").await, 1);

    serving.abort();
    let next = world.another().await;
    assert_eq!(customer.at(&next).get("/v2/assets/TSLA").await.status, 200);
    world.audit().await;
}
