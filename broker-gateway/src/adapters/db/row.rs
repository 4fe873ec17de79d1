//! Rows as they are read, and their way into the application's types.

use super::error::RowError;
use crate::application::request::{Due, Rank, Request};
use crate::domain::attempt::{Attempt, AttemptEnd};
use crate::domain::history::Asked;
use crate::domain::live::Owed;
use crate::domain::outcome::Refusal;
use contracts::{AccountId, BrokerId, BrokerOrderId, OrderId, OrderTerms, Partition, Price, Quantity, Symbol};
use rust_decimal::Decimal;
use time::OffsetDateTime;
use uuid::Uuid;

/// A row of `requests`.
pub(super) struct RequestRow {
    pub(super) now: OffsetDateTime,
    pub(super) order_id: Uuid,
    pub(super) account_id: Uuid,
    pub(super) partition: i16,
    pub(super) broker: String,
    pub(super) symbol: String,
    pub(super) side: String,
    pub(super) order_type: String,
    pub(super) time_in_force: String,
    pub(super) quantity: Decimal,
    pub(super) limit_price: Option<Decimal>,
    pub(super) traceparent: Option<String>,
    pub(super) version: i64,
    pub(super) state: String,
    pub(super) due_at: Option<OffsetDateTime>,
    pub(super) due_rank: i16,
    pub(super) attempts: i32,
    pub(super) valid_until: Option<OffsetDateTime>,
    pub(super) asked: i32,
    pub(super) asked_at: Option<OffsetDateTime>,
    pub(super) none_at: Option<OffsetDateTime>,
    pub(super) broker_order_id: Option<String>,
    pub(super) broker_status: Option<String>,
    pub(super) contradiction: Option<String>,
    pub(super) cancel_requested: i32,
    pub(super) cancel_answered: i32,
    pub(super) cancel_tries: i32,
    pub(super) observe_requested: i32,
    pub(super) observe_answered: i32,
    pub(super) observe_tries: i32,
}

impl RequestRow {
    fn terms(&self) -> Result<OrderTerms, RowError> {
        let limit = self.limit_price.map(Price::new).transpose()?;
        Ok(OrderTerms::new(
            Symbol::new(self.symbol.clone())?,
            self.side.parse()?,
            self.order_type.parse()?,
            self.time_in_force.parse()?,
            Quantity::new(self.quantity)?,
            limit,
        )?)
    }
}

impl TryFrom<RequestRow> for Request {
    type Error = RowError;

    fn try_from(row: RequestRow) -> Result<Self, RowError> {
        let terms = row.terms()?;
        let rank = match row.due_rank {
            0 => Rank::Cancel,
            1 => Rank::Question,
            _ => Rank::Send,
        };
        Ok(Self {
            order_id: OrderId::new(row.order_id),
            account_id: AccountId::new(row.account_id),
            partition: Partition::new(row.partition)?,
            broker: BrokerId::new(row.broker)?,
            terms,
            traceparent: row.traceparent,
            version: row.version,
            state: row.state.parse()?,
            due: row.due_at.map(|at| Due { at, rank }),
            attempts: row.attempts,
            valid_until: row.valid_until,
            asked: Asked {
                count: u32::try_from(row.asked).map_err(|_| RowError::Other { what: "count of lookups" })?,
                last_began_at: row.asked_at,
                last_none_began_at: row.none_at,
            },
            broker_order_id: row.broker_order_id.map(BrokerOrderId::new).transpose()?,
            broker_status: row.broker_status,
            contradiction: row.contradiction,
            cancel: Owed { requested: row.cancel_requested, answered: row.cancel_answered, tries: row.cancel_tries },
            observe: Owed {
                requested: row.observe_requested,
                answered: row.observe_answered,
                tries: row.observe_tries,
            },
        })
    }
}

/// A row of `attempts`, as far as decisions need it.
pub(super) struct AttemptRow {
    pub(super) order_id: Uuid,
    pub(super) n: i32,
    pub(super) bytes_hash: Vec<u8>,
    pub(super) claimed_at: OffsetDateTime,
    pub(super) give_up_at: OffsetDateTime,
    pub(super) outcome: Option<String>,
    pub(super) ended_at: Option<OffsetDateTime>,
    pub(super) broker_code: Option<i64>,
    pub(super) detail: Option<String>,
}

impl TryFrom<AttemptRow> for Attempt {
    type Error = RowError;

    fn try_from(row: AttemptRow) -> Result<Self, RowError> {
        let end = match row.outcome.as_deref() {
            None => None,
            Some("accepted") => Some(AttemptEnd::Accepted),
            Some("duplicate") => Some(AttemptEnd::Duplicate),
            Some("rejected") => Some(AttemptEnd::Rejected(Refusal {
                code: row.broker_code.unwrap_or(0),
                message: row.detail.clone().unwrap_or_default(),
            })),
            Some("not_sent" | "rate_limited") => Some(AttemptEnd::NotSent),
            Some("unknown") => Some(AttemptEnd::Unknown),
            Some(_) => return Err(RowError::Other { what: "outcome of an attempt" }),
        };
        Ok(Self {
            number: row.n,
            claimed_at: row.claimed_at,
            give_up_at: row.give_up_at,
            end: end.map(|end| (end, row.ended_at.unwrap_or(row.give_up_at))),
            bytes_hash: row.bytes_hash.try_into().map_err(|_| RowError::Other { what: "hash of an attempt" })?,
        })
    }
}
