//! Commands and reads in memory, for tests of the routes alone.

use super::auth::{Authenticator, hash_secret};
use super::limits::{Rates, RequestLimits};
use super::{ApiParts, ApiState, BodyLimits};
use crate::application::command::{CommandError, Commands, Deposit, HaltAccount, PlaceOrder, Placed, Withdrawal};
use crate::application::operator::Action;
use crate::application::query::{AccountView, ApiKey, OrderFilter, PositionView, Queries, QueryError, StatusCounts};
use crate::application::reference::ReferenceData;
use crate::domain::account::{AccountStatus, Balance, Position};
use crate::domain::asset::Asset;
use crate::domain::facts::{Facts, Submit};
use crate::domain::hold::Hold;
use crate::domain::order::{Order, Times};
use crate::domain::refusal::Refusal;
use async_trait::async_trait;
use contracts::calendar::{MarketCalendar, MarketHours};
use contracts::{AccountId, ClientOrderId, Currency, OrderId, Symbol};
use platform::clock::{Clock, SystemIds};
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

pub(crate) const NOW: OffsetDateTime = datetime!(2026-07-01 14:00 UTC);
pub(crate) const KEY: &str = "PKTEST";
pub(crate) const SECRET: &str = "secret";
pub(crate) const LIMITS: BodyLimits =
    BodyLimits { len_max: 65_536, drained_len_max: 16 << 20, read_timeout: Duration::from_secs(5) };

/// A clock that stands until it is moved.
pub(crate) struct FakeClock(pub(crate) Mutex<OffsetDateTime>);

impl Clock for FakeClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

/// What a command is answered with, if not with success.
pub(crate) type Scripted = Mutex<Vec<CommandError>>;

pub(crate) struct Fake {
    pub(crate) account: AccountId,
    pub(crate) keys: Mutex<BTreeMap<String, ApiKey>>,
    pub(crate) orders: Mutex<Vec<Order>>,
    pub(crate) positions: Mutex<Vec<PositionView>>,
    pub(crate) deposits: Mutex<BTreeMap<String, Deposit>>,
    pub(crate) failures: Scripted,
    /// How often a key was looked up.
    pub(crate) lookups: AtomicUsize,
    pub(crate) actions: Mutex<Vec<Action>>,
    /// None: it cannot be read.
    pub(crate) key_change: Mutex<Option<Uuid>>,
}

pub(crate) struct World {
    pub(crate) fake: Arc<Fake>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) reference: Arc<ReferenceData>,
}

pub(crate) fn asset(symbol: &str) -> Asset {
    Asset {
        id: Uuid::from_u128(7),
        symbol: Symbol::new(symbol).unwrap(),
        name: symbol.to_owned(),
        exchange: "NASDAQ".to_owned(),
        tradable: true,
        fractionable: true,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let account = AccountId::new(Uuid::from_u128(1));
        let key =
            ApiKey { key_id: KEY.to_owned(), account_id: account, secret_sha256: hash_secret(SECRET), ends: false };
        let fake = Fake {
            account,
            keys: Mutex::new(BTreeMap::from([(KEY.to_owned(), key)])),
            orders: Mutex::new(Vec::new()),
            positions: Mutex::new(Vec::new()),
            deposits: Mutex::new(BTreeMap::new()),
            failures: Mutex::new(Vec::new()),
            lookups: AtomicUsize::new(0),
            actions: Mutex::new(Vec::new()),
            key_change: Mutex::new(Some(Uuid::nil())),
        };
        let reference = ReferenceData::default();
        reference.replace_assets(vec![asset("AAPL")]);
        Self { fake: Arc::new(fake), clock: Arc::new(FakeClock(Mutex::new(NOW))), reference: Arc::new(reference) }
    }

    pub(crate) fn state(&self) -> ApiState {
        let clock: Arc<dyn Clock> = self.clock.clone();
        Arc::new(ApiParts {
            commands: self.fake.clone(),
            queries: self.fake.clone(),
            reference: self.reference.clone(),
            calendar: Arc::new(MarketCalendar::new(MarketHours::Real).unwrap()),
            authenticator: Arc::new(Authenticator::new(self.fake.clone(), clock.clone())),
            limits: Arc::new(RequestLimits::new(Rates::default())),
            clock,
            ids: Arc::new(SystemIds),
        })
    }

    pub(crate) fn hold(&self, symbol: &str, shares: i64, cost: i64) {
        let shares = Balance { available: Decimal::from(shares), ..Balance::default() };
        let position = Position { shares, cost_basis: Decimal::from(cost) };
        self.fake.positions.lock().unwrap().push(PositionView { asset: asset(symbol), position });
    }
}

fn new_order(command: PlaceOrder) -> Order {
    Order {
        id: command.order_id,
        account_id: command.account_id,
        client_order_id: command.client_order_id,
        hold_price: Decimal::ONE,
        terms: command.terms,
        asset_id: Uuid::from_u128(7),
        facts: Facts::new(Submit::Queued),
        hold: Hold::default(),
        commission: Decimal::ZERO,
        broker: None,
        broker_order_id: None,
        reason: None,
        times: Times { accepted: NOW, updated: NOW, cancel_requested: None, ended: None },
    }
}

#[async_trait]
impl Commands for Fake {
    async fn place(&self, command: PlaceOrder) -> Result<Placed, CommandError> {
        if let Some(failure) = self.failures.lock().unwrap().pop() {
            return Err(failure);
        }
        let mut orders = self.orders.lock().unwrap();
        if let Some(order) = orders.iter().find(|order| order.client_order_id == command.client_order_id) {
            return Ok(Placed { order: order.clone(), replayed: true });
        }
        let order = new_order(command);
        orders.push(order.clone());
        Ok(Placed { order, replayed: false })
    }

    async fn cancel(&self, account_id: AccountId, order_id: OrderId) -> Result<(), CommandError> {
        let mut orders = self.orders.lock().unwrap();
        let order = orders.iter_mut().find(|order| order.id == order_id && order.account_id == account_id);
        let order = order.ok_or(Refusal::OrderNotFound(order_id))?;
        if order.status().is_terminal() {
            return Err(Refusal::NotCancelable { status: order.status() }.into());
        }
        order.facts.raise_submit(Submit::Withdrawn);
        order.touch(NOW);
        Ok(())
    }

    async fn withdraw(&self, _: Withdrawal) -> Result<(), CommandError> {
        Err(Refusal::InsufficientCash { available: Decimal::ONE, requested: Decimal::TEN }.into())
    }

    async fn halt(&self, _: HaltAccount) -> Result<(), CommandError> {
        Ok(())
    }

    async fn deposit(&self, command: Deposit) -> Result<(), CommandError> {
        let mut deposits = self.deposits.lock().unwrap();
        match deposits.get(&command.reference) {
            Some(booked) if booked.money != command.money => Err(CommandError::ReferenceConflict),
            Some(_) => Ok(()),
            None => {
                deposits.insert(command.reference.clone(), command);
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Queries for Fake {
    async fn order(&self, account: AccountId, order: OrderId) -> Result<Option<Order>, QueryError> {
        Ok(self.any_order(order).await?.filter(|order| order.account_id == account))
    }

    async fn any_order(&self, order: OrderId) -> Result<Option<Order>, QueryError> {
        Ok(self.orders.lock().unwrap().iter().find(|other| other.id == order).cloned())
    }

    async fn order_by_client_id(&self, account: AccountId, id: &ClientOrderId) -> Result<Option<Order>, QueryError> {
        let orders = self.orders.lock().unwrap();
        Ok(orders.iter().find(|order| order.account_id == account && order.client_order_id == *id).cloned())
    }

    async fn orders(&self, account: AccountId, filter: &OrderFilter) -> Result<Vec<Order>, QueryError> {
        let orders = self.orders.lock().unwrap();
        let mine = orders.iter().filter(|order| order.account_id == account && !order.status().is_terminal());
        Ok(mine.filter(|order| filter.after_order_id.is_none_or(|id| order.id > id)).cloned().collect())
    }

    async fn account(&self, account: AccountId) -> Result<Option<AccountView>, QueryError> {
        let cash = Balance { available: Decimal::from(900), held: Decimal::from(100), shortfall: Decimal::ZERO };
        Ok((account == self.account).then(|| AccountView {
            id: account,
            number: "A1".to_owned(),
            status: AccountStatus::Active,
            halt_reason: None,
            currency: Currency::USD,
            cash,
            created_at: NOW,
        }))
    }

    async fn positions(&self, _account: AccountId) -> Result<Vec<PositionView>, QueryError> {
        Ok(self.positions.lock().unwrap().clone())
    }

    async fn api_key(&self, key_id: &str) -> Result<Option<ApiKey>, QueryError> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        Ok(self.keys.lock().unwrap().get(key_id).cloned())
    }

    async fn last_key_change(&self) -> Result<Uuid, QueryError> {
        let last = *self.key_change.lock().unwrap();
        last.ok_or_else(|| QueryError::Store { what: "read the last change of api keys", source: "it is gone".into() })
    }

    async fn assets(&self) -> Result<Vec<Asset>, QueryError> {
        Ok(vec![asset("AAPL")])
    }

    async fn status_counts(&self) -> Result<StatusCounts, QueryError> {
        Ok(Vec::new())
    }
}
