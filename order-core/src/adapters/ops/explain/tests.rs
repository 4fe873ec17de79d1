use crate::adapters::http::fakes::{Fake, NOW, World};
use crate::application::command::{Commands, PlaceOrder};
use crate::application::explain::{
    Doubtful, Explanation, Found, Match, OwnRow, PeerAnswer, Peers, StoryStore, doubtful, explain,
};
use crate::application::query::QueryError;
use crate::domain::order::Order;
use async_trait::async_trait;
use contracts::{AccountId, ClientOrderId, OrderId, OrderTerms, OrderType, Price, Quantity, Side, Symbol, TimeInForce};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use time::Duration;
use uuid::Uuid;

/// What the other processes would say, and what they were asked.
struct FakePeers {
    gateway: BTreeMap<String, PeerAnswer>,
    receiver: BTreeMap<String, PeerAnswer>,
    otherwise: PeerAnswer,
    asked: Mutex<Vec<String>>,
}

impl FakePeers {
    fn new(otherwise: PeerAnswer) -> Self {
        Self { gateway: BTreeMap::new(), receiver: BTreeMap::new(), otherwise, asked: Mutex::new(Vec::new()) }
    }
}

#[async_trait]
impl Peers for FakePeers {
    async fn gateway_story(&self, id: &str) -> PeerAnswer {
        self.asked.lock().unwrap().push(format!("gateway {id}"));
        self.gateway.get(id).unwrap_or(&self.otherwise).clone()
    }

    async fn receiver_story(&self, id: &str) -> PeerAnswer {
        self.asked.lock().unwrap().push(format!("receiver {id}"));
        self.receiver.get(id).unwrap_or(&self.otherwise).clone()
    }

    async fn unsettled(&self) -> PeerAnswer {
        self.gateway.get("unsettled").unwrap_or(&self.otherwise).clone()
    }
}

fn match_of(order: &Order) -> Match {
    Match {
        order_id: order.id.as_uuid(),
        account_id: order.account_id.as_uuid(),
        client_order_id: order.client_order_id.to_string(),
        status: order.status().as_str().to_owned(),
        accepted_at: NOW,
    }
}

#[async_trait]
impl StoryStore for Fake {
    async fn find(&self, id: &str, _: Option<AccountId>) -> Result<Found, QueryError> {
        let orders = self.orders.lock().unwrap();
        let named = orders.iter().filter(|o| o.client_order_id.as_str() == id || o.id.to_string() == id);
        Ok(Found { orders: named.map(match_of).collect(), refusals: Vec::new() })
    }

    async fn matches(&self, ids: &[OrderId]) -> Result<Vec<Match>, QueryError> {
        let orders = self.orders.lock().unwrap();
        Ok(orders.iter().filter(|order| ids.contains(&order.id)).map(match_of).collect())
    }

    async fn rows(&self, _: &Order) -> Result<(Vec<OwnRow>, bool), QueryError> {
        let row = |kind, ms| OwnRow { at: NOW + Duration::milliseconds(ms), kind, data: json!({}) };
        Ok((vec![row("transition", 0), row("journal", 0), row("transition", 400)], false))
    }

    async fn doubtful(&self, _: i64) -> Result<Vec<Doubtful>, QueryError> {
        let orders = self.orders.lock().unwrap();
        let doubtful = |order: &Order| Doubtful {
            order_id: order.id.as_uuid(),
            account_id: order.account_id.as_uuid(),
            status: "in_doubt".to_owned(),
            reason: None,
            updated_at: NOW,
        };
        Ok(orders.iter().map(doubtful).collect())
    }
}

async fn placed(world: &World, n: u128) -> OrderId {
    let terms = OrderTerms::new(
        Symbol::new("AAPL").unwrap(),
        Side::Buy,
        OrderType::Limit,
        TimeInForce::Day,
        Quantity::parse("1").unwrap(),
        Some(Price::parse("10").unwrap()),
    );
    let command = PlaceOrder {
        account_id: world.fake.account,
        order_id: OrderId::new(Uuid::from_u128(n)),
        client_order_id: ClientOrderId::new(format!("c-{n}")).unwrap(),
        client_order_id_given: true,
        terms: terms.unwrap(),
    };
    world.fake.place(command).await.unwrap().order.id
}

async fn ask(world: &World, peers: &FakePeers, id: &str) -> Explanation {
    explain(&*world.fake, &*world.fake, peers, id, None).await.unwrap()
}

fn gateway_part(order: OrderId) -> Value {
    json!({
        "story": {
            "evidence_digest": "d",
            "truncated": false,
            "request": {"order_id": order, "state": "live"},
            "attempts": [{"n": 1, "claimed_at": "2026-07-01T14:00:00.1Z", "outcome": "unknown"}],
            "lookups": [{"n": 1, "began_at": "2026-07-01T16:00:00.3+02:00", "outcome": "found"}],
        },
        "log": [{"seq": 1, "type": "gateway.in_doubt", "at": "2026-07-01T14:00:00.2Z"}],
    })
}

fn receiver_part(order: OrderId) -> Value {
    json!({
        "truncated": false,
        "broker_orders": [{"broker_order_id": "b-1", "order_id": order}],
        "facts": [{"kind": "fill", "stored_at": "2026-07-01T14:00:00.35Z", "body": "{}", "raw_sha256": "ab"}],
        "log": [],
    })
}

#[tokio::test]
async fn the_parts_of_three_processes_stand_in_one_order_of_time() {
    let world = World::new();
    let order = placed(&world, 5).await;
    let mut peers = FakePeers::new(PeerAnswer::Unknown);
    peers.gateway.insert(order.to_string(), PeerAnswer::Known(gateway_part(order)));
    peers.receiver.insert(order.to_string(), PeerAnswer::Known(receiver_part(order)));
    let told = ask(&world, &peers, "c-5").await;
    let story: Vec<_> = told.timeline.iter().map(|entry| (entry.process, entry.kind)).collect();
    let expected = [
        ("order-server", "transition"),
        ("order-server", "journal"),
        ("broker-gateway", "attempt"),
        ("broker-gateway", "event"),
        ("broker-gateway", "lookup"),
        ("fill-receiver", "raw_event"),
        ("order-server", "transition"),
    ];
    assert_eq!((story, told.truncated), (expected.to_vec(), false));
    let parts = told.parts();
    assert_eq!(parts["gateway"]["request"]["state"], "live");
    assert_eq!(parts["receiver"]["broker_orders"][0]["broker_order_id"], "b-1");
}

#[tokio::test]
async fn a_process_that_does_not_answer_is_named_and_the_rest_is_told() {
    let world = World::new();
    let order = placed(&world, 5).await;
    let mut peers = FakePeers::new(PeerAnswer::Unreachable("no connection".to_owned()));
    peers.receiver.insert(order.to_string(), PeerAnswer::Known(receiver_part(order)));
    let told = ask(&world, &peers, &order.to_string()).await;
    assert_eq!(told.parts()["gateway"], json!({"status": "unreachable", "reason": "no connection"}));
    assert_eq!((told.timeline.len(), told.order.is_some()), (4, true));
    let unknown = ask(&world, &FakePeers::new(PeerAnswer::Unreachable("no".to_owned())), "e-9").await;
    assert!(!unknown.is_nothing(), "nobody may know it, but not everybody was asked");
    assert!(ask(&world, &FakePeers::new(PeerAnswer::Unknown), "e-9").await.is_nothing());
}

#[tokio::test]
async fn an_id_that_only_another_process_knows_leads_to_the_order() {
    let world = World::new();
    let order = placed(&world, 5).await;
    let mut peers = FakePeers::new(PeerAnswer::Unknown);
    peers.receiver.insert("exec-1".to_owned(), PeerAnswer::Known(receiver_part(order)));
    peers.receiver.insert(order.to_string(), PeerAnswer::Known(receiver_part(order)));
    let told = ask(&world, &peers, "exec-1").await;
    assert_eq!(told.order.map(|found| found.id), Some(order));
    assert!(told.timeline.iter().any(|entry| entry.kind == "raw_event"));
    assert!(peers.asked.lock().unwrap().contains(&format!("gateway {order}")));
}

#[tokio::test]
async fn a_cut_part_marks_the_whole() {
    let world = World::new();
    let order = placed(&world, 5).await;
    for (gateway, receiver) in [(true, false), (false, true)] {
        let mut peers = FakePeers::new(PeerAnswer::Unknown);
        let (mut there, mut events) = (gateway_part(order), receiver_part(order));
        there["story"]["truncated"] = gateway.into();
        events["truncated"] = receiver.into();
        peers.gateway.insert(order.to_string(), PeerAnswer::Known(there));
        peers.receiver.insert(order.to_string(), PeerAnswer::Known(events));
        assert!(ask(&world, &peers, "c-5").await.truncated);
    }
}

#[tokio::test]
async fn doubtful_orders_come_with_the_evidence_and_with_what_only_the_gateway_lists() {
    let world = World::new();
    let order = placed(&world, 5).await;
    let other = Uuid::from_u128(77);
    let mut peers = FakePeers::new(PeerAnswer::Unreachable("no".to_owned()));
    let now = NOW + Duration::seconds(90);
    let alone = doubtful(&*world.fake, &peers, 10, now).await.unwrap();
    assert_eq!((&alone["orders"][0]["age_s"], &alone["orders"][0]["evidence"]), (&json!(90), &Value::Null));
    assert_eq!(alone["parts"]["gateway"]["status"], "unreachable");
    let item = |id: String| json!({"age_s": 3, "evidence_digest": "d", "request": {"order_id": id}});
    let list = json!({"requests": [item(other.to_string()), item(order.to_string())]});
    peers.gateway.insert("unsettled".to_owned(), PeerAnswer::Known(list));
    let told = doubtful(&*world.fake, &peers, 10, now).await.unwrap();
    assert_eq!(told["orders"][0]["evidence"]["evidence_digest"], "d");
    assert_eq!(told["only_at_gateway"][0]["request"]["order_id"], json!(other));
}
