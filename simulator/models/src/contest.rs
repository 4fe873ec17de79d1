//! One account, several copies of the order server: the lock, the version, and what stands between a
//! decision on old rows and its write. Each copy is the production
//! [`BatchRunner`].

use crate::memory::{Db, Guard, Market, Op, Port, PortLocks, PortStore};
use crate::tasks::{Faults, Happens, State, Work};
use crate::world;
use contracts::calendar::MarketCalendar;
use contracts::{AccountId, OrderId};
use order_core::application::batch::{BatchPolicy, BatchRunner};
use order_core::application::command::CommandError;
use order_core::application::queue::{Answer, Command, Done, Item};
use order_core::domain::journal::Ledger;
use rust_decimal::Decimal;
use stateright::{Model, Property};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What the customer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// The order is taken.
    Accepted,
    /// It was decided, and refused.
    Refused,
    /// It was proven not to be taken.
    NotTaken,
    /// Nobody knows.
    Unknown,
    /// The model's patience was over before any answer.
    Nothing,
}

/// When an account's lock is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlock {
    /// When the production code gives it back: after the commit.
    AfterCommit,
    /// When the transaction begins.
    BeforeCommit,
}

/// The bounds of a check.
#[derive(Clone)]
pub struct Contest {
    /// What guards a write.
    pub guard: Guard,
    /// When locks are given back.
    pub unlock: Unlock,
    /// What may go wrong.
    pub faults: Faults,
    /// Whether a copy goes on without a lock that somebody else has had for long.
    impatient: bool,
    /// How many copies, each with one order.
    copies: usize,
    calendar: MarketCalendar,
    market: Arc<Market>,
}

/// Most batches that a copy tries.
const ROUNDS_MAX: u32 = 3;

impl Contest {
    /// The production code, in this world.
    #[must_use]
    pub fn new(guard: Guard, unlock: Unlock, faults: Faults) -> Self {
        let (calendar, market) = (world::calendar(), Arc::new(world::market()));
        Self { guard, unlock, faults, impatient: false, copies: 2, calendar, market }
    }

    /// The same without any patience with locks that somebody else has.
    #[must_use]
    pub fn impatient(self) -> Self {
        Self { impatient: true, ..self }
    }

    fn work(&self, n: usize, port: Port) -> Work<Told> {
        let runner = BatchRunner {
            store: Arc::new(PortStore(port.clone())),
            locks: Arc::new(PortLocks(port)),
            reference: Arc::clone(&self.market),
            calendar: self.calendar.clone(),
            policy: policy(self.impatient),
        };
        let (item, answer) = Item::asked(Command::Place(world::order(n, 60)));
        Box::pin(async move {
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
            drop(items);
            told(answer.await.ok())
        })
    }
}

/// What a customer makes of an answer; none where the connection ends without one.
#[must_use]
pub fn told(answer: Option<Answer>) -> Told {
    match answer {
        Some(Ok(Done::Placed(_) | Done::Nothing)) => Told::Accepted,
        Some(Err(CommandError::Refused(_))) => Told::Refused,
        Some(Err(CommandError::NotTaken { .. })) => Told::NotTaken,
        Some(Err(_)) => Told::Unknown,
        None => Told::Nothing,
    }
}

/// How the copies decide.
#[must_use]
pub fn policy(impatient: bool) -> BatchPolicy {
    BatchPolicy {
        charges: world::charges(),
        reference_age_max: time::Duration::HOUR,
        losses_max: 2,
        busy_wait_max: if impatient { Duration::ZERO } else { Duration::from_secs(3600) },
        tries_max: 2,
        retry_pause: Duration::ZERO,
        retry_max: Duration::from_secs(3600),
    }
}

/// Whether an account's balances are what its journal adds up to.
#[must_use]
pub fn balances_are_journal_sums(db: &Db) -> bool {
    db.accounts.values().all(|account| {
        let is = |asset: &str, ledger, amount: Decimal| {
            db.journal.get(&(account.id, asset.to_owned(), ledger)).copied().unwrap_or_default() == amount
        };
        let positions = account.positions.iter().map(|(symbol, position)| (symbol.to_string(), position.shares));
        std::iter::once((account.currency.to_string(), account.cash)).chain(positions).all(|(asset, balance)| {
            is(&asset, Ledger::Available, balance.available)
                && is(&asset, Ledger::Held, balance.held)
                && is(&asset, Ledger::Shortfall, -balance.shortfall)
        })
    })
}

/// Whether what is held is what the orders hold.
#[must_use]
pub fn holds_are_those_of_orders(db: &Db) -> bool {
    db.accounts.values().all(|account| {
        let orders = || db.orders.values().filter(|order| order.account_id == account.id);
        let shares: Decimal = account.positions.values().map(|position| position.shares.held).sum();
        account.cash.held == orders().map(|order| order.hold.cash).sum::<Decimal>()
            && shares == orders().map(|order| order.hold.shares).sum::<Decimal>()
    })
}

impl Model for Contest {
    type State = State<Told>;
    type Action = Happens;

    fn init_states(&self) -> Vec<Self::State> {
        let mut db = Db::new(self.guard);
        db.open_account(world::account(100));
        vec![State::begin(db, self.copies, self.faults.most, &|n, port| self.work(n, port))]
    }

    fn actions(&self, state: &Self::State, happens: &mut Vec<Happens>) {
        state.possible(&self.faults, happens);
    }

    fn next_state(&self, last: &Self::State, what: Happens) -> Option<Self::State> {
        let mut next = last.clone();
        let on_call = |db: &mut Db, op: &Op, tokens: &BTreeMap<AccountId, u64>| {
            if self.unlock == Unlock::BeforeCommit && matches!(op, Op::Begin) {
                let held = tokens.iter().map(|(account, token)| (*account, *token)).collect();
                db.run(&Op::Release(held), tokens);
            }
        };
        next.let_happen(what, &|n, port| self.work(n, port), &on_call).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always("balances are their journal sums", |_, state| {
                balances_are_journal_sums(&state.db)
            }),
            Property::<Self>::always("what is held is what open orders hold", |_, state| {
                holds_are_those_of_orders(&state.db)
            }),
            Property::<Self>::always("an accepted order is there, a refused one is not", |_, state| {
                state.tasks.iter().enumerate().all(|(n, task)| {
                    let there = state.db.orders.contains_key(&id(n));
                    match task.ended {
                        Some(Told::Accepted) => there,
                        Some(Told::Refused | Told::NotTaken) => !there,
                        Some(Told::Unknown | Told::Nothing) | None => true,
                    }
                })
            }),
            Property::<Self>::always("the same cash is spent once", |_, state| state.db.orders.len() <= 1),
        ];
        if self.guard == Guard::Version {
            properties.push(Property::<Self>::sometimes("one order is taken and the other refused", |_, state| {
                let told = |what| state.tasks.iter().any(|task| task.ended == Some(what));
                told(Told::Accepted) && told(Told::Refused)
            }));
        }
        properties
    }
}

fn id(n: usize) -> OrderId {
    world::order(n, 60).order_id
}
