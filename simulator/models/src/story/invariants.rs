//! The invariants, at the end of a story, against the broker's truth.

use super::World;
use super::broker::{BrokerOrder, Status as AtBroker};
use crate::contest::{Told, balances_are_journal_sums, holds_are_those_of_orders};
use crate::world;
use broker_gateway::domain::state::State;
use contracts::Side;
use contracts::event::{BrokerEvent, BrokerFact, Payload, Producer};
use order_core::domain::hold::{Hold, required};
use order_core::domain::order::Order;
use order_core::domain::status::Status;
use rust_decimal::Decimal;
use std::collections::BTreeSet;

impl World {
    /// What must not be.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.answers(&mut found);
        self.broker_orders(&mut found);
        self.ledger(&mut found);
        self.executions(&mut found);
        if !balances_are_journal_sums(&self.core.db) {
            found.push("I4: a balance is not its journal sum".to_owned());
        }
        self.money(&mut found);
        self.holds(&mut found);
        self.ends(&mut found);
        self.exits_from_doubt(&mut found);
        self.logs_applied(&mut found);
        for (order, alarm) in &self.gateway.alarms {
            found.push(format!("alarm of order {order}: {alarm:?}"));
        }
        found
    }

    fn answers(&self, found: &mut Vec<String>) {
        for (n, wish) in self.core.wishes.iter().enumerate() {
            let stored = self.core.db.orders.get(&wish.place.order_id);
            match wish.told {
                Some(Told::Accepted) if stored.is_none_or(|order| order.terms != wish.place.terms) => {
                    found.push(format!("I1: order {n} was accepted and is not here with its terms"));
                }
                Some(Told::Refused) if stored.is_some() => {
                    found.push(format!("I1: order {n} was refused and is here"));
                }
                _ => {}
            }
        }
    }

    fn broker_orders(&self, found: &mut Vec<String>) {
        for (n, order) in self.broker.orders.iter().enumerate() {
            if self.broker.orders.iter().skip(n + 1).any(|other| other.key.0 == order.key.0) {
                found.push(format!("I2: two orders at the broker for {}", order.key.0));
            }
            if !self.core.db.orders.contains_key(&order.key.0) {
                found.push(format!("I2: the broker has {}, which is not ours", order.key.0));
            }
        }
    }

    /// Whether nobody can tie the broker's order to ours but a person.
    fn is_with_persons(&self, order: &BrokerOrder) -> bool {
        order.wire_key.is_none()
            && self.gateway.requests.get(&order.key.0).is_some_and(|(request, _)| request.state == State::Manual)
    }

    /// The receiver's ledger has every execution once, however often the broker tells it.
    fn ledger(&self, found: &mut Vec<String>) {
        let mut seen = BTreeSet::new();
        let events = self.receiver.log.values().flatten().filter_map(|event| BrokerEvent::decode(event).ok());
        for event in events {
            if let BrokerFact::Fill { execution_id, .. } = event.fact
                && !seen.insert(execution_id.clone())
            {
                found.push(format!("I3: execution {execution_id} is in the receiver's log twice"));
            }
        }
    }

    fn executions(&self, found: &mut Vec<String>) {
        for order in &self.broker.orders {
            if self.is_with_persons(order) {
                let kept = self.core.db.orphans.values().filter(|(_, id, _)| id.to_string() == order.id.to_string());
                let word = "broker.fill";
                if kept.filter(|(.., event)| event.kind == word).count() < order.fills.len() {
                    found.push(format!("I3: a fill of the orphan {} is not kept", order.id));
                }
                continue;
            }
            let mut theirs: Vec<String> = (0..order.fills.len()).map(|n| order.execution(n)).collect();
            let rows = self.core.db.executions.get(&order.key.0);
            let mut ours: Vec<String> =
                rows.into_iter().flatten().map(|execution| execution.execution_id.to_string()).collect();
            theirs.sort_unstable();
            ours.sort_unstable();
            if theirs != ours {
                found.push(format!("I3: the broker executed {theirs:?} of {}, we have {ours:?}", order.key.0));
            }
            let gross = self.core.db.orders.get(&order.key.0).map(|order| order.facts.executed.gross_quantity);
            if gross != Some(Decimal::from(order.filled())) {
                found.push(format!("I3: {} shares of {}, we count {gross:?}", order.filled(), order.key.0));
            }
        }
    }

    /// Cash and shares are what the broker's executions make of the beginning.
    fn money(&self, found: &mut Vec<String>) {
        let begin = world::account(120);
        let (mut cash, mut shares) = (begin.cash.total(), Decimal::TEN);
        for order in self.broker.orders.iter().filter(|order| !self.is_with_persons(order)) {
            let filled = Decimal::from(order.filled());
            let sign = if order.terms.side() == Side::Buy { Decimal::ONE } else { -Decimal::ONE };
            shares += sign * filled;
            cash -= sign * filled * Decimal::TEN;
        }
        let Some(account) = self.core.db.accounts.get(&world::ACCOUNT) else { return };
        let held = account.positions.values().map(|position| position.shares.total()).sum::<Decimal>();
        if account.cash.total() != cash || held != shares {
            let ours = (account.cash.total(), held);
            found.push(format!("I3: cash and shares should be {:?}, and are {ours:?}", (cash, shares)));
        }
    }

    fn holds(&self, found: &mut Vec<String>) {
        if !holds_are_those_of_orders(&self.core.db) {
            found.push("I5: what is held is not what open orders hold".to_owned());
        }
        for order in self.core.db.orders.values() {
            let wanted = required(order, &world::charges()).ok();
            let ended = order.status().is_terminal() && order.hold != Hold::default();
            if wanted != Some(order.hold) || ended {
                found.push(format!("I5: {} holds {:?} and needs {wanted:?}", order.id, order.hold));
            }
        }
    }

    fn ends(&self, found: &mut Vec<String>) {
        for order in self.core.db.orders.values() {
            let truth = self.broker.orders.iter().find(|other| other.key.0 == order.id);
            let status = order.status();
            if truth.is_some_and(|truth| self.is_with_persons(truth)) {
                if status.is_terminal() {
                    found.push(format!("I6: {} is with persons and called {}", order.id, status.as_str()));
                }
                continue;
            }
            if let Some(wanted) = self.wanted(order, truth)
                && wanted != status
            {
                let is = truth.map(|truth| truth.status);
                found.push(format!("I6: {} is called {} and is {is:?} at the broker", order.id, status.as_str()));
            }
        }
    }

    /// What an order must be called once everything is at rest, where that is not open.
    fn wanted(&self, order: &Order, truth: Option<&BrokerOrder>) -> Option<Status> {
        match truth.map(|truth| truth.status) {
            Some(AtBroker::Filled) => Some(Status::Filled),
            Some(AtBroker::Canceled) => Some(Status::Canceled),
            Some(AtBroker::Expired) => Some(Status::Expired),
            Some(AtBroker::Live) if order.status().is_terminal() => Some(Status::Working),
            Some(AtBroker::Live) => None,
            None => match order.status() {
                Status::Rejected | Status::Canceled | Status::Expired | Status::Manual => None,
                _ => Some(Status::Rejected),
            },
        }
    }

    fn exits_from_doubt(&self, found: &mut Vec<String>) {
        for step in self.core.db.transitions.iter().filter(|step| step.from == Some(Status::InDoubt)) {
            let names_evidence = step.cause.kind.starts_with("broker.") || step.cause.kind.starts_with("gateway.");
            if step.to != Status::InDoubt && !names_evidence {
                found.push(format!("I7: {} left doubt for {} by {}", step.order_id, step.to.as_str(), step.cause.kind));
            }
        }
    }

    fn logs_applied(&self, found: &mut Vec<String>) {
        for (producer, logs) in
            [(Producer::BrokerGateway, &self.gateway.log), (Producer::FillReceiver, &self.receiver.log)]
        {
            for (partition, log) in logs {
                for event in log {
                    let passed = self.core.db.passed.get(&((producer, *partition), event.seq)).copied().unwrap_or(0);
                    if passed != 1 {
                        found.push(format!("I8: event {} of {producer} was passed {passed} times", event.seq));
                    }
                }
            }
        }
        for event in self.core.db.deferred.values() {
            found.push(format!("I8: event {} waits for ever: {}", event.envelope.seq, event.detail));
        }
    }

    /// Counts what happened.
    pub(super) fn count(&mut self) {
        self.tally.orders = self.core.db.orders.len() as u64;
        self.tally.fills = self.broker.orders.iter().map(|order| order.fills.len() as u64).sum();
        let attempts = self
            .gateway
            .requests
            .values()
            .map(|(_, attempts)| attempts.iter().filter(|attempt| attempt.may_have_arrived()).count());
        self.tally.resent = attempts.filter(|sent| *sent > 1).count() as u64;
        self.tally.manual =
            self.gateway.requests.values().filter(|(request, _)| request.state == State::Manual).count() as u64;
    }
}
