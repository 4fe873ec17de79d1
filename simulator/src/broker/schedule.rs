//! What is going to happen by itself, in the order of its time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use contracts::alpaca::OrderRequest;
use time::OffsetDateTime;

use super::fact::Fact;
use super::fault::FaultSpec;

/// Something that happens later.
#[derive(Debug)]
pub(super) enum Action {
    /// A request that was on its way reaches the broker.
    Arrive { account: usize, request: Box<OrderRequest>, attempt: u64 },
    /// An order that was taken can be seen.
    Appear(usize),
    /// An order that waited for the session trades.
    Open(usize),
    /// The next part of a market order fills.
    NextPart(usize),
    /// A cancel takes effect.
    FinishCancel { order: usize, fill_first: Option<FaultSpec> },
    /// A cancel that was accepted is refused after all.
    RefuseCancel { order: usize, fault: FaultSpec },
    /// A replacement takes effect, or is refused after all.
    FinishReplace { order: usize, by: usize, fault: Option<FaultSpec> },
    /// A trade that was kept back is told.
    TellTrade(usize),
    /// The first execution of an order is taken back.
    BustFirst(usize),
    /// The first execution of an order is corrected.
    CorrectFirst(usize),
    /// An accepted order is rejected.
    RejectLate(usize),
    /// An event is sent again.
    Repeat(Box<Fact>),
    /// An event is not held any longer.
    Release(usize),
    /// Orders of a session expire.
    Expire(Vec<usize>),
}

#[derive(Debug)]
struct Entry {
    due: OffsetDateTime,
    /// Keeps actions of the same time in the order in which they were planned.
    number: u64,
    action: Action,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

/// Planned actions. Expiries are kept apart, all orders of one close together.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    heap: BinaryHeap<Reverse<Entry>>,
    expiries: std::collections::BTreeMap<OffsetDateTime, Vec<usize>>,
    next_number: u64,
}

impl Schedule {
    pub(super) fn plan(&mut self, due: OffsetDateTime, action: Action) {
        self.next_number += 1;
        self.heap.push(Reverse(Entry { due, number: self.next_number, action }));
    }

    pub(super) fn plan_expiry(&mut self, due: OffsetDateTime, order: usize) {
        self.expiries.entry(due).or_default().push(order);
    }

    /// When the next action is due.
    pub(super) fn next_due(&self) -> Option<OffsetDateTime> {
        let planned = self.heap.peek().map(|Reverse(entry)| entry.due);
        let expiry = self.expiries.keys().next().copied();
        match (planned, expiry) {
            (Some(planned), Some(expiry)) => Some(planned.min(expiry)),
            (planned, expiry) => planned.or(expiry),
        }
    }

    /// Takes the next action that is due.
    pub(super) fn pop_due(&mut self, now: OffsetDateTime) -> Option<Action> {
        if self.heap.peek().is_some_and(|Reverse(entry)| entry.due <= now) {
            return self.heap.pop().map(|Reverse(entry)| entry.action);
        }
        if self.expiries.first_key_value().is_some_and(|(due, _)| *due <= now) {
            return self.expiries.pop_first().map(|(_, orders)| Action::Expire(orders));
        }
        None
    }

    /// How many actions are on their way, not counting expiries.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}
