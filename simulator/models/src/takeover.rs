//! Consumers of one partition of an event log: two copies that read, die and take over, while a customer
//! cancels. Each copy is the production [`FactApplier`], on slices that the platform has checked.

use crate::contest::{balances_are_journal_sums, holds_are_those_of_orders, policy};
use crate::memory::{Db, Guard, Market, Port, PortLocks, PortStore, Positions};
use crate::tasks::{Faults, Happens, State, Work};
use crate::world;
use contracts::calendar::MarketCalendar;
use contracts::event::{BrokerFact, Envelope, Producer};
use contracts::{ExecutionId, OrderId, Partition};
use order_core::application::batch::BatchRunner;
use order_core::application::facts::{FactApplier, FactSlice};
use order_core::application::queue::{Command, Item};
use order_core::application::store::LogPosition;
use order_core::domain::status::Status;
use platform::consumer::Slice;
use platform::eventlog::Position;
use rust_decimal::Decimal;
use stateright::{Model, Property};
use std::sync::Arc;

/// Most slices that a copy takes up.
const ROUNDS_MAX: u32 = 2;
/// Most events of a slice.
const SLICE_LEN_MAX: usize = 2;
/// The bounds of a check.
#[derive(Clone)]
pub struct Takeover {
    /// How positions move.
    positions: Positions,
    faults: Faults,
    copies: usize,
    with_cancel: bool,
    log: Arc<Vec<Envelope>>,
    order: OrderId,
    calendar: MarketCalendar,
    market: Arc<Market>,
}

impl Takeover {
    /// The production code on a log of an order that is filled twice and then canceled: so many copies
    /// consume, while the customer cancels or not.
    #[must_use]
    pub fn new(positions: Positions, faults: Faults, copies: usize, with_cancel: bool) -> Self {
        let order = world::order(0, 10).order_id;
        let fill = |n: i64| BrokerFact::Fill {
            execution_id: world::execution(n),
            quantity: world::shares(1),
            price: world::price(10),
        };
        let facts = [(fill(1), 1), (fill(2), 2), (BrokerFact::Canceled, 2)];
        let log = world::receiver_log(order, facts.into_iter());
        Self {
            positions,
            faults,
            copies,
            with_cancel,
            log: Arc::new(log),
            order,
            calendar: world::calendar(),
            market: Arc::new(world::market()),
        }
    }

    fn runner(&self, port: Port) -> BatchRunner<PortStore, PortLocks, Market> {
        BatchRunner {
            store: Arc::new(PortStore(port.clone())),
            locks: Arc::new(PortLocks(port)),
            reference: Arc::clone(&self.market),
            calendar: self.calendar.clone(),
            policy: policy(false),
        }
    }

    fn command(&self, port: Port, command: Command) -> Work<()> {
        let runner = self.runner(port);
        Box::pin(async move {
            let item = Item::internal(command);
            item.claim();
            let mut items = vec![item];
            for _ in 0..ROUNDS_MAX {
                let rest = runner.run(items, world::NOW).await;
                for alone in rest.alone.into_values() {
                    runner.alone(alone, &|| world::NOW).await;
                }
                items = rest.again;
                if items.is_empty() {
                    break;
                }
            }
        })
    }

    fn consume(&self, port: Port) -> Work<()> {
        let log = Arc::clone(&self.log);
        Box::pin(async move {
            let applier = FactApplier { store: Arc::new(PortStore(port.clone())), charges: world::charges() };
            let partition = Partition::of_account(world::ACCOUNT);
            for _ in 0..ROUNDS_MAX {
                let Ok(at) = port.position((Producer::FillReceiver, partition)).await else { return };
                let events: Vec<Envelope> =
                    log.iter().filter(|event| event.seq > at.seq).take(SLICE_LEN_MAX).cloned().collect();
                let after = Position { seq: at.seq, event_id: at.event_id };
                let Ok(slice) = Slice::new(Producer::FillReceiver, partition, after, events) else { break };
                let after = LogPosition { seq: slice.after.seq, event_id: slice.after.event_id };
                let slice = FactSlice { producer: slice.producer, partition, after, events: slice.events };
                // Moved, or not known: the position says what has taken effect.
                let _result = applier.apply(&slice, world::NOW).await;
            }
            let _more = applier.redrive(&[partition], world::NOW).await;
        })
    }

    fn work(&self, n: usize, port: Port) -> Work<()> {
        if n < self.copies {
            self.consume(port)
        } else {
            self.command(port, Command::Cancel(world::ACCOUNT, self.order))
        }
    }

    /// Databases in which the order is placed.
    fn db(&self) -> Db {
        let mut db = Db::new(Guard::Version);
        db.open_account(world::account(100));
        let mut order = world::order(0, 10);
        order.terms = world::terms(contracts::Side::Buy, 3, 10);
        let place = |_, port| self.command(port, Command::Place(order.clone()));
        let mut state = State::begin(db, 1, 0, &place);
        while !state.is_over() {
            if !state.let_happen(Happens::Call(0, ""), &place, &|_, _, _| {}) {
                break;
            }
        }
        state.db.positions = self.positions;
        state.db
    }

    fn has_effect(&self, db: &Db, event: &Envelope) -> bool {
        let id = match event.seq {
            1 => world::execution(1),
            2 => world::execution(2),
            _ => return self.ended(db),
        };
        self.has_execution(db, &id)
    }

    fn has_execution(&self, db: &Db, id: &ExecutionId) -> bool {
        db.executions.get(&self.order).is_some_and(|rows| rows.iter().any(|row| row.execution_id == *id))
    }

    fn ended(&self, db: &Db) -> bool {
        db.orders.get(&self.order).is_some_and(|order| order.facts.broker_end.is_some())
    }
}

impl Model for Takeover {
    type State = State<()>;
    type Action = Happens;

    fn init_states(&self) -> Vec<Self::State> {
        let tasks = self.copies + usize::from(self.with_cancel);
        vec![State::begin(self.db(), tasks, self.faults.most, &|n, port| self.work(n, port))]
    }

    fn actions(&self, state: &Self::State, happens: &mut Vec<Happens>) {
        state.possible(&self.faults, happens);
    }

    fn next_state(&self, last: &Self::State, what: Happens) -> Option<Self::State> {
        let mut next = last.clone();
        next.let_happen(what, &|n, port| self.work(n, port), &|_, _, _| {}).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always("an event takes effect once", |_, state| {
                state.db.passed.values().all(|times| *times <= 1)
            }),
            Property::<Self>::always("what is passed has its effect, or waits", |model, state| {
                model.log.iter().all(|event| {
                    let log = (event.producer, event.partition);
                    let is_passed = state.db.passed.contains_key(&(log, event.seq));
                    let waits = state.db.deferred.contains_key(&(event.producer, event.partition, event.seq));
                    !is_passed || waits || !state.db.is_quiet() || model.has_effect(&state.db, event)
                })
            }),
            Property::<Self>::always("events of an account take effect in their order", |model, state| {
                model
                    .log
                    .iter()
                    .skip_while(|event| model.has_effect(&state.db, event))
                    .all(|event| !model.has_effect(&state.db, event))
            }),
            Property::<Self>::always("balances are their journal sums", |_, state| {
                balances_are_journal_sums(&state.db)
            }),
            Property::<Self>::always("what is held is what open orders hold", |_, state| {
                holds_are_those_of_orders(&state.db)
            }),
            Property::<Self>::always("an order that has ended holds nothing and has all its fills", |model, state| {
                state.db.orders.get(&model.order).is_none_or(|order| {
                    !order.status().is_terminal()
                        || (order.hold.cash.is_zero() && order.facts.executed.gross_quantity == Decimal::TWO)
                })
            }),
        ];
        if self.positions == Positions::WithTheEffect {
            properties.push(Property::<Self>::sometimes(
                "all has taken effect, after a death where one may be",
                |model, state| {
                    let died = state.tasks.iter().any(|task| task.is_dead);
                    died == (model.faults.deaths && model.copies > 1)
                        && state.db.orders.get(&model.order).is_some_and(|order| order.status() == Status::Canceled)
                },
            ));
            if self.with_cancel {
                properties.push(Property::<Self>::sometimes("an event waits for a busy account", |_, state| {
                    !state.db.deferred.is_empty()
                }));
            }
        }
        properties
    }
}
