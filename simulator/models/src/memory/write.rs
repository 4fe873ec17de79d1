//! What transactions write, and their commit.

use super::db::{Db, Guard};
use super::op::{Reply, TxId};
use contracts::event::{Envelope, OrdersEvent, Payload, Producer};
use contracts::{BrokerId, BrokerOrderId, EventId, OrderId, Partition};
use order_core::application::store::{Deferred, LogPartition, LogPosition, Plan};
use serde_json::value::to_raw_value;
use time::OffsetDateTime;
use uuid::Uuid;

/// A row that an open transaction has written.
#[derive(Debug, Clone)]
pub(super) enum Row {
    Plan(Box<Plan>),
    Bind((BrokerId, BrokerOrderId), Option<OrderId>),
    Orphan((BrokerId, BrokerOrderId, Envelope)),
    Adopted(EventId),
    Defer(Deferred),
    Clear((Producer, Partition, i64)),
    Move(LogPartition, LogPosition, LogPosition),
}

impl Db {
    pub(super) fn write(&mut self, tx: TxId, plans: &[Plan]) -> Reply {
        for plan in plans {
            let account = plan.account.id;
            let is_ours = self.open.get(&tx).is_some_and(|open| open.accounts.contains(&account));
            let stands = self.accounts.get(&account).map(|account| account.version);
            if !is_ours || (self.guard == Guard::Version && stands != Some(plan.account.version)) {
                return Reply::Refused("write accounts");
            }
            for order in plan.new_orders.values() {
                let name = (&order.account_id, &order.client_order_id);
                let is_there = self.orders.contains_key(&order.id)
                    || self.orders.values().any(|other| (&other.account_id, &other.client_order_id) == name);
                if is_there {
                    return Reply::Refused("insert orders");
                }
            }
        }
        if let Some(open) = self.open.get_mut(&tx) {
            open.rows.extend(plans.iter().cloned().map(|plan| Row::Plan(Box::new(plan))));
        }
        Reply::Done
    }

    pub(super) fn commit(&mut self, tx: TxId) {
        for row in self.open.remove(&tx).map(|open| open.rows).unwrap_or_default() {
            match row {
                Row::Plan(plan) => self.book(*plan),
                Row::Bind(key, order) => {
                    self.broker_orders.insert(key, order);
                }
                Row::Orphan((broker, id, event)) => {
                    self.orphans.insert(event.id, (broker, id, event));
                }
                Row::Adopted(event) => {
                    self.orphans.remove(&event);
                }
                Row::Defer(event) => {
                    let place = (event.envelope.producer, event.envelope.partition, event.envelope.seq);
                    self.deferred.insert(place, event);
                }
                Row::Clear(place) => {
                    self.deferred.remove(&place);
                }
                Row::Move(log, from, to) => self.pass(log, from, to),
            }
        }
    }

    pub(super) fn pass(&mut self, log: LogPartition, from: LogPosition, to: LogPosition) {
        self.applied.insert(log, to);
        for seq in from.seq.saturating_add(1)..=to.seq {
            let times = self.passed.entry((log, seq)).or_default();
            *times = times.saturating_add(1);
        }
    }

    fn book(&mut self, plan: Plan) {
        let mut account = plan.account;
        account.version = self.accounts.get(&account.id).map_or(0, |stored| stored.version) + 1;
        for line in &plan.lines {
            let key = |ledger| (line.account_id, line.asset.clone(), ledger);
            *self.journal.entry(key(line.debit)).or_default() -= line.amount;
            *self.journal.entry(key(line.credit)).or_default() += line.amount;
        }
        self.journal.retain(|_, sum| !sum.is_zero());
        // Only the positions that were read are known to the plan; the others stay.
        if let Some(stored) = self.accounts.get_mut(&account.id) {
            let mut positions = std::mem::take(&mut stored.positions);
            positions.extend(std::mem::take(&mut account.positions));
            account.positions = positions;
        }
        self.accounts.insert(account.id, account);
        self.transitions.extend(plan.transitions);
        self.orders.extend(plan.new_orders);
        self.orders.extend(plan.changed_orders);
        for (order, execution) in plan.executions {
            self.executions.entry(order).or_default().push(execution);
        }
        for refusal in plan.refusals {
            self.refusals.insert((refusal.account_id, refusal.client_order_id.clone()), refusal);
        }
    }
}

/// Appends a committed plan's events to the log.
pub(super) fn append(db: &mut Db, plan: &Plan) {
    let partition = Partition::of_account(plan.account.id);
    for event in &plan.events {
        let log = db.log.entry(partition).or_default();
        let seq = i64::try_from(log.len()).unwrap_or(i64::MAX).saturating_add(1);
        let Ok(payload) = to_raw_value(event) else { continue };
        log.push(Envelope {
            id: EventId::new(Uuid::from_u64_pair(
                0x0c00 + u64::from(partition.number().unsigned_abs()),
                u64::try_from(seq).unwrap_or(0),
            )),
            producer: Producer::OrderCore,
            partition,
            seq,
            prev_id: log.last().map(|last| last.id),
            kind: Payload::kind(event).to_owned(),
            version: OrdersEvent::VERSION,
            account_id: Some(plan.account.id),
            order_id: Some(event.order_id()),
            at: OffsetDateTime::UNIX_EPOCH,
            traceparent: None,
            payload,
        });
    }
}
