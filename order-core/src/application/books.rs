//! The working state of one batch: what was read, and what it becomes. Several commands of one
//! account are decided in turn, each on the state that the earlier ones left.

use super::command::{CommandError, PlaceOrder, Placed};
use super::store::{Plan, Snapshot, StoredRefusal, Transition};
use crate::domain::account::{Account, Moved};
use crate::domain::execution::{Execution, ExecutionKind};
use crate::domain::facts::Submit;
use crate::domain::hold::Charges;
use crate::domain::journal::{Cause, Line};
use crate::domain::order::Order;
use crate::domain::place::{self, CancelDecision, NewOrder, PlaceContext};
use crate::domain::refusal::{Halt, Refusal};
use crate::domain::reply::{self, Consequences, FactContext};
use crate::domain::status::Status;
use crate::domain::update::{self, Before, Update, UpdateEvent};
use contracts::event::{BrokerEvent, GatewayEvent, OrdersEvent};
use contracts::money::MoneyError;
use contracts::{AccountId, BrokerKey, ClientOrderId, EventId, OrderId, Symbol};
use std::collections::BTreeMap;
use std::mem::discriminant;
use thiserror::Error;
use time::{Duration, OffsetDateTime};

mod operator;

/// For how long a stored refusal is given again.
pub const REFUSAL_KEPT: Duration = Duration::hours(24);

/// Why a fact could not be applied. Deterministic, so the event is parked for a person.
#[derive(Debug, Error)]
pub enum FactError {
    /// The order was not read, which is a mistake of the caller.
    #[error("order {0} was not read")]
    OrderNotRead(OrderId),
    /// The account was not read or does not exist.
    #[error("account {0} does not exist")]
    NoAccount(AccountId),
    /// An amount leaves the range.
    #[error("an amount is out of range")]
    Money(#[from] MoneyError),
}

/// The state of a batch.
#[derive(Debug)]
pub struct Books {
    snapshot: Snapshot,
    plans: BTreeMap<AccountId, Plan>,
    by_client_id: BTreeMap<(AccountId, ClientOrderId), OrderId>,
    charges: Charges,
    now: OffsetDateTime,
}

impl Books {
    /// Opens the books on what was read.
    #[must_use]
    pub fn open(snapshot: Snapshot, charges: Charges, now: OffsetDateTime) -> Self {
        let by_client_id = snapshot
            .orders
            .values()
            .map(|order| ((order.account_id, order.client_order_id.clone()), order.id))
            .collect();
        Self { snapshot, plans: BTreeMap::new(), by_client_id, charges, now }
    }

    /// What is to be written, one plan an account.
    #[must_use]
    pub fn close(self) -> Vec<Plan> {
        let read = self.snapshot.accounts;
        let plans = self.plans.into_values().map(|mut plan| {
            let was = read.get(&plan.account.id).map(|account| &account.positions);
            let now = &plan.account.positions;
            // Most orders leave the holding as it is: a purchase that is only asked for, an acknowledgement.
            plan.changed_positions.retain(|symbol| was.and_then(|was| was.get(symbol)) != now.get(symbol));
            plan
        });
        plans.filter(|plan| !plan.is_empty()).collect()
    }

    /// The account as it stands in this batch.
    fn account(&self, id: AccountId) -> Option<&Account> {
        self.plans.get(&id).map(|plan| &plan.account).or_else(|| self.snapshot.accounts.get(&id))
    }

    /// The order as it stands in this batch.
    pub(super) fn order(&self, id: OrderId) -> Option<&Order> {
        let stored = self.snapshot.orders.get(&id);
        let account = stored.map(|order| order.account_id);
        self.plans
            .iter()
            .filter(|(plan, _)| account.is_none_or(|account| account == **plan))
            .find_map(|(_, plan)| plan.new_orders.get(&id).or_else(|| plan.changed_orders.get(&id)))
            .or(stored)
    }

    /// The symbol of an order that was read.
    #[must_use]
    pub fn symbol_of(&self, order: OrderId) -> Option<Symbol> {
        self.order(order).map(|order| order.terms.symbol().clone())
    }

    fn plan(&mut self, account: &Account) -> &mut Plan {
        self.plans.entry(account.id).or_insert_with(|| Plan::new(account.clone()))
    }

    /// Decides a new order.
    ///
    /// # Errors
    /// [`CommandError::Refused`] or [`CommandError::AccountNotFound`].
    pub fn place(&mut self, command: &PlaceOrder, context: &PlaceContext<'_>) -> Result<Placed, CommandError> {
        let name = (command.account_id, command.client_order_id.clone());
        if let Some(order) = self.by_client_id.get(&name).and_then(|id| self.order(*id)) {
            if order.terms.hash() == command.terms.hash() {
                return Ok(Placed { order: order.clone(), replayed: true });
            }
            return Err(Refusal::DuplicateClientOrderId.into());
        }
        if let Some(stored) = self.kept_refusal(&name) {
            if stored.terms_hash != command.terms.hash() {
                return Err(Refusal::DuplicateClientOrderId.into());
            }
            let StoredRefusal { status, code, message, .. } = stored.clone();
            return Err(Refusal::Stored { status, code, message }.into());
        }
        let mut account = self.account(command.account_id).ok_or(CommandError::AccountNotFound)?.clone();
        match self.place_new(&mut account, command, context) {
            Ok(order) => Ok(Placed { order, replayed: false }),
            Err(refusal) => {
                self.keep_refusal(&account, command, &refusal);
                Err(refusal.into())
            }
        }
    }

    fn place_new(
        &mut self,
        account: &mut Account,
        command: &PlaceOrder,
        context: &PlaceContext<'_>,
    ) -> Result<Order, Refusal> {
        if self.snapshot.parked.contains(&account.id) {
            return Err(Refusal::Restricted("one of its broker events waits for a person".to_owned()));
        }
        if let Some(halt) = self.halted(account, command.terms.symbol()) {
            return Err(Refusal::Halted(halt));
        }
        let new = NewOrder {
            id: command.order_id,
            client_order_id: command.client_order_id.clone(),
            terms: command.terms.clone(),
        };
        let mut lines = Vec::new();
        let order = place::place(account, new, context, &mut lines)?;
        let name = (account.id, order.client_order_id.clone());
        let symbol = order.terms.symbol().clone();
        let cause = Cause { kind: "order.accepted", id: order.id.as_uuid() };
        let to = order.status();
        let update = Some(tell(account, &order, update::first_event(to), false, self.now));
        let plan = self.plan(account);
        plan.account = account.clone();
        plan.lines.append(&mut lines);
        plan.changed_positions.insert(symbol);
        plan.transitions.push(Transition { order_id: order.id, from: None, to, cause, update });
        if context.open {
            plan.events.push(submit_event(&order));
        }
        plan.new_orders.insert(order.id, order.clone());
        self.by_client_id.insert(name, order.id);
        Ok(order)
    }

    /// What stops new orders of an account in a symbol.
    fn halted(&self, account: &Account, symbol: &Symbol) -> Option<Halt> {
        let halts = &self.snapshot.halts;
        if halts.market {
            Some(Halt::Market)
        } else if account.halt_reason.is_some() {
            Some(Halt::Account)
        } else {
            halts.symbols.contains(symbol).then(|| Halt::Symbol(symbol.clone()))
        }
    }

    fn kept_refusal(&self, name: &(AccountId, ClientOrderId)) -> Option<&StoredRefusal> {
        let in_batch = self
            .plans
            .get(&name.0)
            .and_then(|plan| plan.refusals.iter().find(|refusal| refusal.client_order_id == name.1));
        let kept = in_batch.or_else(|| self.snapshot.refusals.get(name));
        kept.filter(|refusal| self.now - refusal.at < REFUSAL_KEPT)
    }

    fn keep_refusal(&mut self, account: &Account, command: &PlaceOrder, refusal: &Refusal) {
        if !command.client_order_id_given || refusal.is_passing() {
            return;
        }
        let (status, code) = refusal.answer();
        let stored = StoredRefusal {
            account_id: account.id,
            client_order_id: command.client_order_id.clone(),
            terms_hash: command.terms.hash(),
            status,
            code,
            message: refusal.to_string(),
            at: self.now,
        };
        // The refused order may have changed the copy that it was tried on; the plan keeps its own.
        let Some(current) = self.account(account.id).cloned() else { return };
        self.plan(&current).refusals.push(stored);
    }

    /// Decides a cancel request.
    ///
    /// # Errors
    /// [`CommandError::Refused`] when there is no such order or it is at its end.
    pub fn cancel(&mut self, account_id: AccountId, order_id: OrderId) -> Result<(), CommandError> {
        let found = self.order(order_id).filter(|order| order.account_id == account_id).cloned();
        let mut order = found.ok_or(Refusal::OrderNotFound(order_id))?;
        let mut account = self.account(account_id).ok_or(CommandError::AccountNotFound)?.clone();
        let before = Before::of(&order);
        let mut lines = Vec::new();
        let decision = place::cancel(&mut account, &mut order, &self.charges, self.now, &mut lines)?;
        let cause = Cause { kind: "order.cancel_requested", id: order_id.as_uuid() };
        match decision {
            CancelDecision::AlreadyRequested => return Ok(()),
            CancelDecision::CanceledHere => {}
            CancelDecision::AskGateway { request } => {
                self.plan(&account).events.push(OrdersEvent::Cancel { order_id, request });
            }
        }
        self.record(account, order, &before, None, cause, lines);
        Ok(())
    }

    /// Releases a reserved order into its session, or ends it when it may not trade any more. It
    /// stays reserved while there is no price to hold by, and while its account is parked or its
    /// trading halted: a halt ends, and may have been meant for five minutes.
    ///
    /// # Errors
    /// [`CommandError::Refused`] when there is no such order.
    pub fn release(
        &mut self,
        account_id: AccountId,
        order_id: OrderId,
        context: &PlaceContext<'_>,
    ) -> Result<(), CommandError> {
        let found = self.order(order_id).filter(|order| order.account_id == account_id).cloned();
        let mut order = found.ok_or(Refusal::OrderNotFound(order_id))?;
        let mut account = self.account(account_id).ok_or(CommandError::AccountNotFound)?.clone();
        let before = Before::of(&order);
        if order.status() != Status::Reserved || self.snapshot.parked.contains(&account_id) {
            return Ok(());
        }
        if self.halted(&account, order.terms.symbol()).is_some() {
            return Ok(());
        }
        let cause = Cause { kind: "order.released", id: order_id.as_uuid() };
        let mut lines = Vec::new();
        match place::release(&mut account, &mut order, context, &mut lines) {
            Ok(()) => {
                let event = submit_event(&order);
                self.plan(&account).events.push(event);
            }
            Err(refusal) if refusal.is_passing() => return Ok(()),
            Err(refusal) => {
                order.facts.raise_submit(Submit::Refused);
                order.reason = Some(refusal.to_string());
                reply::settle_hold(&mut account, &mut order, &self.charges, cause, &mut lines)
                    .map_err(Refusal::from)?;
                order.touch(self.now);
            }
        }
        self.record(account, order, &before, None, cause, lines);
        Ok(())
    }

    /// Applies a reply of the gateway.
    ///
    /// # Errors
    /// [`FactError`]; nothing of the event has taken effect then.
    pub fn gateway_event(&mut self, event: &GatewayEvent, event_id: EventId) -> Result<Consequences, FactError> {
        let (mut account, mut order) = self.for_fact(event.order_id())?;
        let before = Before::of(&order);
        let mut lines = Vec::new();
        let result = reply::apply_gateway(&mut account, &mut order, event, &self.fact(event_id), &mut lines)?;
        let cause = Cause { kind: contracts::event::Payload::kind(event), id: event_id.as_uuid() };
        self.consequences(&account, &order, result);
        self.record(account, order, &before, None, cause, lines);
        Ok(result)
    }

    /// Applies a broker's event to one of our orders.
    ///
    /// # Errors
    /// [`FactError`]; nothing of the event has taken effect then.
    pub fn broker_event(
        &mut self,
        order_id: OrderId,
        event: &BrokerEvent,
        event_id: EventId,
    ) -> Result<Consequences, FactError> {
        let (mut account, mut order) = self.for_fact(order_id)?;
        let before = Before::of(&order);
        let mut ledger = self.snapshot.executions.get(&order_id).cloned().unwrap_or_default();
        let execution = reply::execution_of(event, event_id).filter(|new| is_new(&order, new, &ledger));
        ledger.extend(execution.clone());
        let mut lines = Vec::new();
        let result = reply::apply_broker(&mut account, &mut order, event, &ledger, &self.fact(event_id), &mut lines)?;
        let kind = execution.as_ref().map(|execution| execution.kind.clone());
        if let Some(execution) = execution {
            self.snapshot.executions.insert(order_id, ledger);
            self.plan(&account).executions.push((order_id, execution));
        }
        let cause = Cause { kind: contracts::event::Payload::kind(event), id: event_id.as_uuid() };
        self.consequences(&account, &order, result);
        self.record(account, order, &before, kind.as_ref(), cause, lines);
        Ok(result)
    }

    const fn fact(&self, event_id: EventId) -> FactContext {
        FactContext { event_id, charges: self.charges, now: self.now }
    }

    fn for_fact(&self, order_id: OrderId) -> Result<(Account, Order), FactError> {
        let order = self.order(order_id).ok_or(FactError::OrderNotRead(order_id))?.clone();
        let account = self.account(order.account_id).ok_or(FactError::NoAccount(order.account_id))?.clone();
        Ok((account, order))
    }

    fn consequences(&mut self, account: &Account, order: &Order, result: Consequences) {
        if result.lookup {
            self.plan(account).events.push(OrdersEvent::Lookup { order_id: order.id });
        }
        if result.reopened {
            metrics::counter!("orders_reopened_total").increment(1);
            tracing::error!(order_id = %order.id, client_order_id = %order.client_order_id, account_id = %order.account_id,
                broker_order_id = order.broker_order_id.as_ref().map(display),
                "an ended order lives at the broker again");
        }
        if result.overfilled {
            metrics::counter!("orders_overfilled_total").increment(1);
            tracing::error!(order_id = %order.id, client_order_id = %order.client_order_id, account_id = %order.account_id,
                broker_order_id = order.broker_order_id.as_ref().map(display),
                "more was filled than was ordered");
        }
    }

    fn record(
        &mut self,
        mut account: Account,
        order: Order,
        before: &Before,
        execution: Option<&ExecutionKind>,
        cause: Cause,
        lines: Vec<Line>,
    ) {
        let steps = update::steps(before, &order, execution);
        let now = self.now;
        let transitions: Vec<Transition> = steps
            .into_iter()
            .map(|update::Step { from, to, event }| {
                let update = event.map(|event| tell(&mut account, &order, event, execution.is_some(), now));
                Transition { order_id: order.id, from: Some(from), to, cause, update }
            })
            .collect();
        let plan = self.plan(&account);
        plan.account = account;
        plan.transitions.extend(transitions);
        plan.lines.extend(lines);
        plan.changed_positions.insert(order.terms.symbol().clone());
        match plan.new_orders.get_mut(&order.id) {
            Some(new) => *new = order,
            None => {
                plan.changed_orders.insert(order.id, order);
            }
        }
    }
}

/// Numbers an update of an account's order, as it stands after what happened.
fn tell(account: &mut Account, order: &Order, event: UpdateEvent, is_execution: bool, now: OffsetDateTime) -> Update {
    account.last_update = account.last_update.next(now);
    let executed = order.facts.executed;
    Update {
        mark: account.last_update,
        event,
        filled_quantity: executed.net_quantity,
        filled_notional: executed.net_notional,
        position_quantity: is_execution.then(|| account.balance(Moved::Shares(order.terms.symbol())).total()),
    }
}

/// Whether an execution is not in the ledger yet. The receiver logs an event again, under another id,
/// when it learns whose order it is; the broker's own id and kind then tell that it is the same.
fn is_new(order: &Order, new: &Execution, ledger: &[Execution]) -> bool {
    let same = |old: &&Execution| {
        old.event_id == new.event_id
            || (old.execution_id == new.execution_id && discriminant(&old.kind) == discriminant(&new.kind))
    };
    let Some(known) = ledger.iter().find(same) else { return true };
    if known.kind != new.kind {
        metrics::counter!("executions_contradicted_total").increment(1);
        tracing::error!(order_id = %order.id, client_order_id = %order.client_order_id, account_id = %order.account_id,
            broker_order_id = order.broker_order_id.as_ref().map(display), execution_id = %new.execution_id,
            "an execution came again with other figures; the first stays");
    }
    false
}

fn submit_event(order: &Order) -> OrdersEvent {
    OrdersEvent::Submit {
        order_id: order.id,
        account_id: order.account_id,
        broker_key: BrokerKey::new(order.partition(), order.id),
        terms: order.terms.clone(),
        accepted_at: order.times.accepted,
    }
}

#[cfg(test)]
mod tests;
