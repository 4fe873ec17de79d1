//! What happened to an order, put together from the three processes: what this one decided and
//! booked, what the gateway tried and heard, what the receiver took in. A process that does not answer
//! is named as missing; it never makes the rest disappear.

use super::query::{Queries, QueryError};
use super::timeline::{Entry, timeline};
use crate::domain::order::Order;
use async_trait::async_trait;
use contracts::{AccountId, OrderId};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use time::OffsetDateTime;
use uuid::Uuid;

/// Most orders that one id may stand for in an answer.
pub const MATCHES_MAX: i64 = 50;

/// Most entries of a story.
pub const ENTRIES_MAX: usize = 3_000;

/// An order that an id stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// The order.
    pub order_id: Uuid,
    /// Whose.
    pub account_id: Uuid,
    /// The client's name for it.
    pub client_order_id: String,
    /// Where it stands.
    pub status: String,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub accepted_at: OffsetDateTime,
}

/// A request that was refused under a client's id, and so became no order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalRecord {
    /// Whose.
    pub account_id: Uuid,
    /// The client's name for it.
    pub client_order_id: String,
    /// HTTP status of the answer.
    pub http_status: i16,
    /// Code of the answer.
    pub code: i32,
    /// What was said.
    pub message: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub refused_at: OffsetDateTime,
}

/// What an id stands for in this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Orders.
    pub orders: Vec<Match>,
    /// Refused requests.
    pub refusals: Vec<RefusalRecord>,
}

/// A row of this process's part of a story, ready to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnRow {
    /// When, by this process's clock.
    pub at: OffsetDateTime,
    /// What kind of row.
    pub kind: &'static str,
    /// The row.
    pub data: Value,
}

/// An order in doubt or in the hands of persons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doubtful {
    /// The order.
    pub order_id: Uuid,
    /// Whose.
    pub account_id: Uuid,
    /// `in_doubt` or `manual`.
    pub status: String,
    /// Why, in words.
    pub reason: Option<String>,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// This process's part of a story.
#[async_trait]
pub trait StoryStore: Send + Sync + 'static {
    /// What an id stands for: our order's or event's, the client's, the broker's, an execution's. At
    /// most [`MATCHES_MAX`] of each.
    async fn find(&self, id: &str, account: Option<AccountId>) -> Result<Found, QueryError>;
    /// Orders by their own ids.
    async fn matches(&self, orders: &[OrderId]) -> Result<Vec<Match>, QueryError>;
    /// Everything on record of an order, and whether there is more.
    async fn rows(&self, order: &Order) -> Result<(Vec<OwnRow>, bool), QueryError>;
    /// Orders in doubt or in the hands of persons, oldest first.
    async fn doubtful(&self, limit: i64) -> Result<Vec<Doubtful>, QueryError>;
}

/// What another process says.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerAnswer {
    /// Its part.
    Known(Value),
    /// It knows nothing under that id.
    Unknown,
    /// It did not say.
    Unreachable(String),
}

impl PeerAnswer {
    /// The part as it is shown: what it is, or why it is missing.
    fn status(&self) -> Value {
        match self {
            Self::Known(_) => json!({"status": "answered"}),
            Self::Unknown => json!({"status": "knows_nothing"}),
            Self::Unreachable(why) => json!({"status": "unreachable", "reason": why}),
        }
    }

    /// The part, if there is one.
    #[must_use]
    pub const fn part(&self) -> Option<&Value> {
        match self {
            Self::Known(part) => Some(part),
            Self::Unknown | Self::Unreachable(_) => None,
        }
    }
}

/// The other processes. Never fails: what cannot be had is an answer, too.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// The gateway's story by our order id, or by the id of one of its events.
    async fn gateway_story(&self, id: &str) -> PeerAnswer;
    /// The receiver's story by our order id, the broker's, an execution's, or one of its events.
    async fn receiver_story(&self, id: &str) -> PeerAnswer;
    /// What waits at the gateway for evidence or for persons.
    async fn unsettled(&self) -> PeerAnswer;
}

/// The answer to "what happened to".
#[derive(Debug)]
pub struct Explanation {
    /// The orders that the id stands for; a story only when it is one.
    pub matches: Vec<Match>,
    /// Refused requests under that client order id.
    pub refusals: Vec<RefusalRecord>,
    /// The order.
    pub order: Option<Order>,
    /// Everything in the order of time, by the clocks of the processes.
    pub timeline: Vec<Entry>,
    /// Whether there is more than is shown.
    pub truncated: bool,
    /// What the gateway says.
    pub gateway: PeerAnswer,
    /// What the receiver says.
    pub receiver: PeerAnswer,
}

impl Explanation {
    /// Whether nobody knows the id, and everybody was asked.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.matches.is_empty()
            && self.refusals.is_empty()
            && self.gateway == PeerAnswer::Unknown
            && self.receiver == PeerAnswer::Unknown
    }

    /// What each process contributed, or why it did not.
    #[must_use]
    pub fn parts(&self) -> Value {
        let mut gateway = self.gateway.status();
        let mut receiver = self.receiver.status();
        if let (Some(fields), Some(part)) = (gateway.as_object_mut(), self.gateway.part()) {
            for name in ["request", "evidence_digest"] {
                fields.insert(name.to_owned(), part.pointer(&format!("/story/{name}")).cloned().unwrap_or_default());
            }
        }
        if let (Some(fields), Some(part)) = (receiver.as_object_mut(), self.receiver.part()) {
            fields.insert("broker_orders".to_owned(), part.get("broker_orders").cloned().unwrap_or_default());
        }
        json!({"order_server": {"status": "answered"}, "gateway": gateway, "receiver": receiver})
    }
}

/// Tells the whole story of the order that an id stands for.
///
/// # Errors
/// [`QueryError`] from this process's own database only.
pub async fn explain(
    store: &dyn StoryStore,
    queries: &dyn Queries,
    peers: &dyn Peers,
    id: &str,
    account: Option<AccountId>,
) -> Result<Explanation, QueryError> {
    let found = store.find(id, account).await?;
    let mut answer = Explanation {
        matches: found.orders,
        refusals: found.refusals,
        order: None,
        timeline: Vec::new(),
        truncated: false,
        gateway: PeerAnswer::Unknown,
        receiver: PeerAnswer::Unknown,
    };
    if answer.matches.is_empty() && answer.refusals.is_empty() {
        (answer.gateway, answer.receiver) = tokio::join!(peers.gateway_story(id), peers.receiver_story(id));
        let orders = named_orders(&answer.gateway, &answer.receiver);
        answer.matches = store.matches(&orders).await?;
        answer.matches.retain(|found| account.is_none_or(|account| account.as_uuid() == found.account_id));
    }
    let mut own = Vec::new();
    if let [only] = answer.matches.as_slice()
        && let Some(order) = queries.any_order(OrderId::new(only.order_id)).await?
    {
        let name = order.id.to_string();
        (answer.gateway, answer.receiver) = tokio::join!(peers.gateway_story(&name), peers.receiver_story(&name));
        // Its events may not have named our order.
        if answer.receiver == PeerAnswer::Unknown
            && let Some(broker_order_id) = &order.broker_order_id
        {
            answer.receiver = peers.receiver_story(broker_order_id.as_str()).await;
        }
        (own, answer.truncated) = store.rows(&order).await?;
        answer.order = Some(order);
    }
    if answer.matches.len() <= 1 {
        answer.timeline = timeline(own, &answer.refusals, answer.gateway.part(), answer.receiver.part());
        let cut = |part: Option<&Value>, at: &str| part.and_then(|p| p.pointer(at)) == Some(&Value::Bool(true));
        answer.truncated |= cut(answer.gateway.part(), "/story/truncated") || cut(answer.receiver.part(), "/truncated");
        if answer.timeline.len() > ENTRIES_MAX {
            answer.timeline.truncate(ENTRIES_MAX);
            answer.truncated = true;
        }
    }
    Ok(answer)
}

/// Our orders that the other processes' stories are about.
fn named_orders(gateway: &PeerAnswer, receiver: &PeerAnswer) -> Vec<OrderId> {
    let of_gateway = gateway.part().and_then(|part| part.pointer("/story/request/order_id"));
    let of_receiver = receiver.part().and_then(|part| part.get("broker_orders")).and_then(Value::as_array);
    let of_receiver = of_receiver.into_iter().flatten().filter_map(|order| order.get("order_id"));
    let names = of_gateway.into_iter().chain(of_receiver).filter_map(Value::as_str);
    let orders: BTreeSet<OrderId> = names.filter_map(|name| name.parse().ok()).collect();
    orders.into_iter().collect()
}

/// Orders in doubt or in the hands of persons with the gateway's evidence, oldest first; what only
/// the gateway has on its list; and whether the gateway answered.
///
/// # Errors
/// [`QueryError`] from this process's own database only.
pub async fn doubtful(
    store: &dyn StoryStore,
    peers: &dyn Peers,
    limit: i64,
    now: OffsetDateTime,
) -> Result<Value, QueryError> {
    let (orders, gateway) = tokio::join!(store.doubtful(limit), peers.unsettled());
    let orders = orders?;
    let listed = gateway.part().and_then(|part| part.get("requests")).and_then(Value::as_array);
    let mut listed: Vec<(Option<Uuid>, &Value)> = listed
        .into_iter()
        .flatten()
        .map(|item| (item.pointer("/request/order_id").and_then(Value::as_str).and_then(|id| id.parse().ok()), item))
        .collect();
    let orders: Vec<Value> = orders
        .into_iter()
        .map(|order| {
            let at = listed.iter().position(|(id, _)| *id == Some(order.order_id));
            let evidence = at.map(|at| listed.remove(at).1);
            let age_s = (now - order.updated_at).whole_seconds().max(0);
            json!({"order": order, "age_s": age_s, "evidence": evidence})
        })
        .collect();
    let only_there: Vec<&Value> = listed.into_iter().map(|(_, item)| item).collect();
    Ok(json!({"orders": orders, "only_at_gateway": only_there, "parts": {"gateway": gateway.status()}}))
}
