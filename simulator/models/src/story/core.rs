//! The order server of a story: production batches and consumers over a database in memory.

use super::plot::{Mutation, Plot};
use crate::contest::{Told, policy, told};
use crate::memory::{Db, Guard, Market, Op, Port, PortLocks, PortStore, Positions, Reply, TxOp};
use crate::tasks::Work;
use crate::world;
use contracts::event::{Envelope, Producer};
use contracts::{AccountId, OrderId, Partition, Side};
use order_core::application::batch::BatchRunner;
use order_core::application::command::PlaceOrder;
use order_core::application::facts::{FactApplier, FactSlice};
use order_core::application::queue::{Command, Item};
use order_core::application::store::LogPosition;
use platform::consumer::Slice;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use time::OffsetDateTime;

/// What goes wrong with the commit of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitFault {
    /// The process dies before it.
    DiesBefore,
    /// The process dies after it.
    DiesAfter,
    /// It is done and not confirmed.
    DoneUnconfirmed,
    /// It is lost and not confirmed.
    LostUnconfirmed,
}

impl CommitFault {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::DiesBefore, Self::DiesAfter, Self::DoneUnconfirmed, Self::LostUnconfirmed];

    /// Whether the process dies of it.
    #[must_use]
    pub(super) const fn is_death(self) -> bool {
        matches!(self, Self::DiesBefore | Self::DiesAfter)
    }
}

/// A customer's order and what the customer was told.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// What is posted, as often as there is no answer.
    pub(super) place: PlaceOrder,
    /// Whether it was posted.
    pub(super) posted: bool,
    /// What the customer was told.
    pub(super) told: Option<Told>,
}

/// The order server.
pub(super) struct Core {
    /// Its database.
    pub(super) db: Db,
    /// Its customers.
    pub(super) wishes: Vec<Wish>,
    /// Events that were published and never committed; a planted fault.
    pub(super) published: Vec<Envelope>,
    mutation: Mutation,
    market: Arc<Market>,
    calendar: contracts::calendar::MarketCalendar,
}

impl Core {
    pub(super) fn new(plot: &Plot) -> Self {
        let mut db = Db::new(Guard::Version);
        if plot.mutation == Mutation::PositionBeforeEffect {
            db.positions = Positions::BeforeTheEffect;
        }
        db.open_account(world::account(120));
        let wishes = plot.orders.iter().enumerate().map(|(n, (shares, price, sells))| {
            let side = if *sells { Side::Sell } else { Side::Buy };
            let place = PlaceOrder { terms: world::terms(side, *shares, *price), ..world::order(n, *price) };
            Wish { place, posted: false, told: None }
        });
        Self {
            db,
            wishes: wishes.collect(),
            published: Vec::new(),
            mutation: plot.mutation,
            market: Arc::new(world::market()),
            calendar: world::calendar(),
        }
    }

    fn runner(&self, port: &Port) -> BatchRunner<PortStore, PortLocks, Market> {
        BatchRunner {
            store: Arc::new(PortStore(port.clone())),
            locks: Arc::new(PortLocks(port.clone())),
            reference: Arc::clone(&self.market),
            calendar: self.calendar.clone(),
            policy: policy(true),
        }
    }

    /// A customer posts an order, or posts it again.
    pub(super) fn post(&mut self, n: usize, now: OffsetDateTime, fault: Option<CommitFault>) {
        let Some(place) = self.wishes.get(n).map(|wish| wish.place.clone()) else { return };
        let port = Port::default();
        let (item, answer) = Item::asked(Command::Place(place));
        let work = run(self.runner(&port), item, now);
        let work: Work<Told> = Box::pin(async move {
            work.await;
            told(answer.await.ok())
        });
        let ended = self.drive(&port, work, fault);
        let early = self.mutation == Mutation::AcknowledgeBeforeCommit && fault == Some(CommitFault::DiesBefore);
        if let Some(wish) = self.wishes.get_mut(n) {
            wish.posted = true;
            // No answer, or none that says anything: the customer's program posts it again.
            wish.told = match ended {
                Some(Told::Unknown | Told::Nothing | Told::NotTaken) => None,
                None if early => Some(Told::Accepted),
                other => other,
            };
        }
    }

    /// A customer cancels.
    pub(super) fn cancel(&mut self, order: OrderId, now: OffsetDateTime, fault: Option<CommitFault>) {
        let port = Port::default();
        let work = run(self.runner(&port), Item::internal(Command::Cancel(world::ACCOUNT, order)), now);
        self.drive(&port, Box::pin(work), fault);
    }

    /// How far a log has been applied.
    #[must_use]
    pub(super) fn applied(&self, producer: Producer, partition: Partition) -> LogPosition {
        self.db.applied.get(&(producer, partition)).copied().unwrap_or_default()
    }

    /// Applies a slice.
    pub(super) fn apply(&mut self, slice: &Slice, now: OffsetDateTime, fault: Option<CommitFault>) {
        let after = LogPosition { seq: slice.after.seq, event_id: slice.after.event_id };
        let events = slice.events.clone();
        self.apply_unchecked(
            FactSlice { producer: slice.producer, partition: slice.partition, after, events },
            now,
            fault,
        );
    }

    /// Applies events that nobody has checked for gaps.
    pub(super) fn apply_unchecked(&mut self, slice: FactSlice, now: OffsetDateTime, fault: Option<CommitFault>) {
        let port = Port::default();
        let applier = FactApplier { store: Arc::new(PortStore(port.clone())), charges: world::charges() };
        let work: Work<()> = Box::pin(async move {
            let _known_by_position = applier.apply(&slice, now).await;
        });
        self.drive(&port, work, fault);
    }

    /// Tries waiting events again.
    pub(super) fn redrive(&mut self, now: OffsetDateTime) {
        let port = Port::default();
        let applier = FactApplier { store: Arc::new(PortStore(port.clone())), charges: world::charges() };
        let partitions: Vec<Partition> = Partition::all().collect();
        let work: Work<()> = Box::pin(async move {
            let _more = applier.redrive(&partitions, now).await;
        });
        self.drive(&port, work, None);
    }

    /// Leases of dead holders run out.
    pub(super) fn db_leases_end(&mut self) {
        let locked: Vec<AccountId> = self.db.locked().collect();
        for account in locked {
            self.db.expire_lock(account);
        }
    }

    /// Runs a task to its end; none when its process died.
    fn drive<V>(&mut self, port: &Port, mut work: Work<V>, mut fault: Option<CommitFault>) -> Option<V> {
        let mut tokens = BTreeMap::new();
        loop {
            if let Poll::Ready(ended) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Some(ended);
            }
            let op = port.pending()?;
            if !op.is_commit() || fault.is_none() {
                let reply = self.db.run(&op, &tokens).unwrap_or(Reply::Failed);
                if let (Op::Acquire(accounts), Reply::Locks(had)) = (&op, &reply) {
                    tokens = accounts.iter().zip(had).filter_map(|(id, token)| Some((*id, (*token)?))).collect();
                }
                port.answer(Arc::new(reply));
                continue;
            }
            match fault.take() {
                Some(CommitFault::DiesBefore) => {
                    self.publish_early(&op);
                    self.abort(&op);
                    return None;
                }
                Some(CommitFault::DiesAfter) => {
                    self.db.run(&op, &tokens);
                    return None;
                }
                Some(CommitFault::DoneUnconfirmed) => {
                    self.db.run(&op, &tokens);
                }
                Some(CommitFault::LostUnconfirmed) | None => self.abort(&op),
            }
            port.answer(Arc::new(Reply::CommitUnknown));
        }
    }

    fn abort(&mut self, op: &Op) {
        if let Some(tx) = op.tx() {
            self.db.abort(tx);
        }
    }

    fn publish_early(&mut self, op: &Op) {
        let Op::Tx(_, TxOp::Commit(_)) = op else { return };
        if self.mutation == Mutation::PublishBeforeCommit {
            let mut imagined = self.db.clone();
            imagined.run(op, &BTreeMap::new());
            for (partition, log) in imagined.log {
                let real = self.db.log.get(&partition).map_or(0, Vec::len);
                self.published.extend(log.into_iter().skip(real));
            }
        }
    }
}

async fn run(runner: BatchRunner<PortStore, PortLocks, Market>, item: Item, now: OffsetDateTime) {
    item.claim();
    let mut items = vec![item];
    for _ in 0..4 {
        let rest = runner.run(items, now).await;
        for alone in rest.alone.into_values() {
            runner.alone(alone, &|| now).await;
        }
        items = rest.again;
        if items.is_empty() {
            break;
        }
    }
}
