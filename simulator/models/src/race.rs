//! A cancel that races the fills, the broker's end and the gateway's replies. The order server's side is the
//! production batches and consumers, what a cancel call means is [`after_cancel`]; the three logs reach the
//! order in every order that keeps each log's own.

use crate::contest::{balances_are_journal_sums, holds_are_those_of_orders, policy};
use crate::memory::{Db, Guard, Market, Port, PortLocks, PortStore};
use crate::tasks::{Happens, State as Tasks, Work};
use crate::world;
use broker_gateway::domain::live::{LivePolicy, Owed, Verdict, after_cancel};
use broker_gateway::domain::outcome::{CancelOutcome, Refusal};
use contracts::calendar::MarketCalendar;
use contracts::event::{BrokerFact, Envelope, EvidenceSource, GatewayEvent, ObservedOrder, Producer};
use contracts::{BrokerOrderId, OrderId, Partition, Side};
use order_core::application::batch::BatchRunner;
use order_core::application::facts::{FactApplier, FactSlice};
use order_core::application::queue::{Command, Item};
use order_core::domain::hold::required;
use order_core::domain::status::Status;
use rust_decimal::Decimal;
use stateright::{Model, Property};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Shares of the order.
const SHARES: i64 = 2;
/// Most cancels of the customer.
const CANCELS_MAX: usize = 2;

/// How the order stands at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtBroker {
    /// It may fill.
    Live,
    /// All filled.
    Filled,
    /// Canceled.
    Canceled,
    /// Its time is over.
    Expired,
}

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The customer cancels.
    Cancel,
    /// The gateway says that an attempt has no answer.
    Doubt,
    /// The gateway says that the broker has it.
    Acknowledge,
    /// The gateway's cancel call ends.
    CallEnds(Call),
    /// The broker fills a share.
    Fill,
    /// The broker ends it.
    End(AtBroker),
    /// The order server takes the next reply.
    TakeReply,
    /// The order server takes the next broker event.
    TakeEvent,
}

/// How a cancel call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The broker takes it.
    Taken,
    /// The broker takes it, and the reply is lost.
    TakenUnheard,
    /// The broker does not find the order.
    NotFound,
    /// The broker refuses.
    Refused,
}

/// A moment.
#[derive(Debug, Clone)]
pub struct State {
    db: Db,
    replies: Vec<GatewayEvent>,
    facts: Vec<(BrokerFact, i64)>,
    broker: AtBroker,
    filled: i64,
    cancel_taken: bool,
    owed: Owed,
    digest: u64,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// The model.
#[derive(Clone)]
pub struct Race {
    calendar: MarketCalendar,
    market: Arc<Market>,
    order: OrderId,
    /// Whether a refusal, or not finding the order, is taken for its end; a design that must not pass.
    pub answer_ends_the_order: bool,
}

impl Race {
    /// The production code, or the design that takes an answer to a cancel for the order's end.
    #[must_use]
    pub fn new(answer_ends_the_order: bool) -> Self {
        let order = world::order(0, 10).order_id;
        Self { calendar: world::calendar(), market: Arc::new(world::market()), order, answer_ends_the_order }
    }

    fn command(&self, db: Db, command: &Command) -> Db {
        now(db, &|_, port: Port| {
            let runner = BatchRunner {
                store: Arc::new(PortStore(port.clone())),
                locks: Arc::new(PortLocks(port)),
                reference: Arc::clone(&self.market),
                calendar: self.calendar.clone(),
                policy: policy(false),
            };
            let command = command.clone();
            Box::pin(async move {
                let item = Item::internal(command);
                item.claim();
                runner.run(vec![item], world::NOW).await;
            })
        })
    }

    fn apply(db: Db, log: &[Envelope]) -> Db {
        let Some(first) = log.first() else { return db };
        let at = db.applied.get(&(first.producer, first.partition)).copied().unwrap_or_default();
        let Some(event) = log.iter().find(|event| event.seq == at.seq.saturating_add(1)) else { return db };
        let slice =
            FactSlice { producer: event.producer, partition: event.partition, after: at, events: vec![event.clone()] };
        now(db, &|_, port: Port| {
            let applier = FactApplier { store: Arc::new(PortStore(port)), charges: world::charges() };
            let slice = slice.clone();
            Box::pin(async move {
                let _known_by_position = applier.apply(&slice, world::NOW).await;
            })
        })
    }

    fn events(&self, state: &State) -> Vec<Envelope> {
        world::receiver_log(self.order, state.facts.iter().cloned())
    }

    fn behind(state: &State, producer: Producer, len: usize) -> bool {
        let at = state.db.applied.get(&(producer, Partition::of_account(world::ACCOUNT)));
        at.map_or(0, |at| at.seq) < i64::try_from(len).unwrap_or(0)
    }

    fn is_at_rest(state: &State) -> bool {
        !Self::behind(state, Producer::BrokerGateway, state.replies.len())
            && !Self::behind(state, Producer::FillReceiver, state.facts.len())
    }

    fn status(&self, state: &State) -> Option<Status> {
        state.db.orders.get(&self.order).map(order_core::domain::order::Order::status)
    }

    /// How many cancels the order server has asked the gateway for.
    fn asked(&self, state: &State) -> i32 {
        state.db.orders.get(&self.order).map_or(0, |order| order.facts.cancel_requests)
    }

    fn call_ends(&self, state: &mut State, call: Call) {
        let refusal = || Refusal { code: 42_210_000, message: String::new() };
        let outcome = match call {
            Call::Taken => CancelOutcome::Requested,
            Call::TakenUnheard => CancelOutcome::Unknown { reason: String::new() },
            Call::NotFound => CancelOutcome::NotFound,
            Call::Refused => CancelOutcome::Refused(refusal()),
        };
        state.cancel_taken |= matches!(call, Call::Taken | Call::TakenUnheard) && state.broker == AtBroker::Live;
        let patience =
            LivePolicy { tries_max: 2, delay_first: time::Duration::SECOND, delay_max: time::Duration::SECOND };
        let owed = Owed { requested: self.asked(state), ..state.owed };
        let (owed, verdict) = after_cancel(&patience, owed, &outcome, world::NOW);
        state.owed = owed;
        if let Verdict::CancelRefused(refusal) = verdict {
            let order_id = self.order;
            state.replies.push(if self.answer_ends_the_order {
                let observed = ObservedOrder {
                    broker_order_id: broker_order(),
                    status: "canceled".to_owned(),
                    cumulative_quantity: Some(Decimal::from(state.filled)),
                };
                GatewayEvent::Observed { order_id, broker: crate::broker_id(), observed }
            } else {
                let Refusal { code, message } = refusal;
                GatewayEvent::CancelRefused { order_id, request: owed.requested, code, message }
            });
        }
    }
}

#[expect(clippy::expect_used, reason = "the id is one")]
fn broker_order() -> BrokerOrderId {
    BrokerOrderId::new("b-1").expect("an id")
}

/// Runs a task to its end.
fn now(db: Db, spawn: &impl Fn(usize, Port) -> Work<()>) -> Db {
    let mut tasks = Tasks::begin(db, 1, 0, spawn);
    while !tasks.is_over() {
        if !tasks.let_happen(Happens::Call(0, ""), spawn, &|_, _, _| {}) {
            break;
        }
    }
    tasks.db
}

impl Model for Race {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut db = Db::new(Guard::Version);
        db.open_account(world::account(100));
        let mut place = world::order(0, 10);
        place.terms = world::terms(Side::Buy, SHARES, 10);
        let db = self.command(db, &Command::Place(place));
        let mut state = State {
            db,
            replies: Vec::new(),
            facts: Vec::new(),
            broker: AtBroker::Live,
            filled: 0,
            cancel_taken: false,
            owed: Owed::default(),
            digest: 0,
        };
        state.seal();
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if usize::try_from(self.asked(state)).unwrap_or(0) < CANCELS_MAX {
            steps.push(Step::Cancel);
        }
        let said = |wanted: fn(&GatewayEvent) -> bool| state.replies.iter().any(wanted);
        let acknowledged = said(|event| matches!(event, GatewayEvent::Acknowledged { .. }));
        if !acknowledged {
            steps.push(Step::Acknowledge);
            if state.replies.is_empty() {
                steps.push(Step::Doubt);
            }
        } else if self.asked(state) > state.owed.answered {
            steps.extend([Call::Taken, Call::TakenUnheard, Call::NotFound, Call::Refused].map(Step::CallEnds));
        }
        if state.broker == AtBroker::Live {
            steps.extend([Step::Fill, Step::End(AtBroker::Expired)]);
            if state.cancel_taken {
                steps.push(Step::End(AtBroker::Canceled));
            }
        }
        if Self::behind(state, Producer::BrokerGateway, state.replies.len()) {
            steps.push(Step::TakeReply);
        }
        if Self::behind(state, Producer::FillReceiver, state.facts.len()) {
            steps.push(Step::TakeEvent);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Cancel => state.db = self.command(state.db, &Command::Cancel(world::ACCOUNT, self.order)),
            Step::Doubt => {
                let broker = Some(crate::broker_id());
                state.replies.push(GatewayEvent::InDoubt {
                    order_id: self.order,
                    broker,
                    attempt: 1,
                    reason: String::new(),
                });
            }
            Step::Acknowledge => state.replies.push(GatewayEvent::Acknowledged {
                order_id: self.order,
                broker: crate::broker_id(),
                observed: ObservedOrder {
                    broker_order_id: broker_order(),
                    status: "new".to_owned(),
                    cumulative_quantity: Some(Decimal::from(state.filled)),
                },
                source: EvidenceSource::Reply,
            }),
            Step::CallEnds(call) => self.call_ends(&mut state, call),
            Step::Fill => {
                state.filled += 1;
                let execution_id = world::execution(state.filled);
                let fact = BrokerFact::Fill { execution_id, quantity: world::shares(1), price: world::price(10) };
                state.facts.push((fact, state.filled));
                if state.filled == SHARES {
                    state.broker = AtBroker::Filled;
                }
            }
            Step::End(end) => {
                state.broker = end;
                let fact = if end == AtBroker::Canceled { BrokerFact::Canceled } else { BrokerFact::Expired };
                state.facts.push((fact, state.filled));
            }
            Step::TakeReply => state.db = Self::apply(state.db, &world::gateway_log(&state.replies)),
            Step::TakeEvent => {
                let events = self.events(&state);
                state.db = Self::apply(state.db, &events);
            }
        }
        state.seal();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(
                "what is called ended has ended at the broker, with all its fills",
                |model, state| match model.status(state) {
                    Some(Status::Filled) => state.broker == AtBroker::Filled,
                    Some(Status::Canceled | Status::Expired | Status::Rejected) => {
                        let here = state.db.executions.get(&model.order).map_or(0, Vec::len);
                        matches!(state.broker, AtBroker::Canceled | AtBroker::Expired)
                            && i64::try_from(here) == Ok(state.filled)
                    }
                    _ => true,
                },
            ),
            Property::<Self>::always("at rest an order stands where it stands at the broker", |model, state| {
                !Self::is_at_rest(state)
                    || match (state.broker, model.status(state)) {
                        (AtBroker::Filled, status) => status == Some(Status::Filled),
                        (AtBroker::Canceled, status) => status == Some(Status::Canceled),
                        (AtBroker::Expired, status) => status == Some(Status::Expired),
                        (AtBroker::Live, status) => status.is_some_and(|status| !status.is_terminal()),
                    }
            }),
            Property::<Self>::always("an order holds what it still needs", |_, state| {
                state.db.orders.values().all(|order| required(order, &world::charges()).ok() == Some(order.hold))
                    && holds_are_those_of_orders(&state.db)
            }),
            Property::<Self>::always("balances are their journal sums", |_, state| {
                balances_are_journal_sums(&state.db)
            }),
            Property::<Self>::sometimes("a fill beats the cancel", |model, state| {
                model.asked(state) > 0 && state.cancel_taken && model.status(state) == Some(Status::Filled)
            }),
            Property::<Self>::sometimes("the cancel beats the second fill", |model, state| {
                state.filled == 1 && model.status(state) == Some(Status::Canceled)
            }),
        ]
    }
}

impl State {
    fn seal(&mut self) {
        let mut hasher = DefaultHasher::new();
        self.db.hash(&mut hasher);
        let rest = (&self.replies, &self.facts, self.broker, self.filled, self.cancel_taken, self.owed);
        format!("{rest:?}").hash(&mut hasher);
        self.digest = hasher.finish();
    }
}
