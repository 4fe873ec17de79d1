//! Replies of the broker, put into outcome classes.

use crate::application::wire::{WireFailure, WireReply, WireResult};
use crate::domain::order::SeenOrder;
use crate::domain::outcome::{CancelOutcome, CreateOutcome, LookupOutcome, Refusal};
use contracts::alpaca::{ApiError, OrderEntity};
use contracts::{BrokerKey, BrokerOrderId};

/// How much of a strange body is told.
const EXCERPT_LEN_MAX: usize = 120;
/// How much of a broker's message is kept.
const MESSAGE_LEN_MAX: usize = 500;
/// How much of a broker's status word is kept.
const WORD_LEN_MAX: usize = 64;

pub(super) fn create(key: Option<BrokerKey>, result: &WireResult, rate_limited_is_unprocessed: bool) -> CreateOutcome {
    let reply = match result {
        Ok(reply) => reply,
        Err(WireFailure::NotConnected { reason }) => return CreateOutcome::NotSent { reason: reason.clone() },
        Err(WireFailure::Broken { reason }) => return CreateOutcome::Unknown { reason: reason.clone() },
    };
    let unknown = || CreateOutcome::Unknown { reason: strange(reply) };
    match reply.status {
        200 | 201 => match order(reply, key) {
            Ok(seen) => CreateOutcome::Accepted(Box::new(seen)),
            Err(reason) => CreateOutcome::Unknown { reason },
        },
        429 if rate_limited_is_unprocessed => CreateOutcome::RateLimited { retry_after: reply.retry_after },
        // Our key is not taken, with the broker's own code: it was not processed, and the fault is ours
        // and not the order's. The lane pauses, and the order waits.
        401 if refusal(reply).is_some() => CreateOutcome::NotSent { reason: strange(reply) },
        400 | 403 | 422 => match refusal(reply) {
            Some(error) if error.is_duplicate_client_order_id() => CreateOutcome::Duplicate,
            Some(error) => CreateOutcome::Rejected(Refusal { code: i64::from(error.code), message: error.message }),
            None => unknown(),
        },
        _ => unknown(),
    }
}

pub(super) fn lookup(key: Option<BrokerKey>, result: &WireResult) -> LookupOutcome {
    let reply = match result {
        Ok(reply) => reply,
        Err(WireFailure::NotConnected { reason }) => return LookupOutcome::NotSent { reason: reason.clone() },
        Err(WireFailure::Broken { reason }) => return LookupOutcome::Unknown { reason: reason.clone() },
    };
    match reply.status {
        200 => match order(reply, key) {
            Ok(seen) => LookupOutcome::Found(Box::new(seen)),
            Err(reason) => LookupOutcome::Unknown { reason },
        },
        404 if refusal(reply).is_some() => LookupOutcome::None,
        429 => LookupOutcome::RateLimited { retry_after: reply.retry_after },
        _ => LookupOutcome::Unknown { reason: strange(reply) },
    }
}

pub(super) fn cancel(result: &WireResult) -> CancelOutcome {
    let reply = match result {
        Ok(reply) => reply,
        Err(WireFailure::NotConnected { reason }) => return CancelOutcome::NotSent { reason: reason.clone() },
        Err(WireFailure::Broken { reason }) => return CancelOutcome::Unknown { reason: reason.clone() },
    };
    let refused = refusal(reply);
    match (reply.status, refused) {
        (200 | 202 | 204, _) => CancelOutcome::Requested,
        (422, Some(error)) => CancelOutcome::Refused(Refusal { code: i64::from(error.code), message: error.message }),
        (404, Some(_)) => CancelOutcome::NotFound,
        (429, _) => CancelOutcome::RateLimited { retry_after: reply.retry_after },
        _ => CancelOutcome::Unknown { reason: strange(reply) },
    }
}

pub(super) fn broker_code(result: &WireResult) -> Option<i64> {
    let reply = result.as_ref().ok()?;
    refusal(reply).map(|error| i64::from(error.code))
}

/// A bare 401 or 403: whoever sent it did not take our key.
pub(super) fn is_unauthorized(result: &WireResult) -> bool {
    result.as_ref().is_ok_and(|reply| match reply.status {
        401 => true,
        403 => refusal(reply).is_none(),
        _ => false,
    })
}

/// The broker's own words: JSON with an eight-digit code that belongs to the status. The duplicate
/// is the known exception, with a code of 400 under the status 422.
fn refusal(reply: &WireReply) -> Option<ApiError> {
    let error: ApiError = serde_json::from_slice(&reply.body).ok()?;
    let family = error.code / 100_000;
    let belongs = family == u32::from(reply.status) || (family == 400 && reply.status == 422);
    belongs.then(|| ApiError { message: told(&error.message, MESSAGE_LEN_MAX), ..error })
}

/// A broker's text, cut and without control characters, before it goes anywhere: it ends up in
/// events and columns that have limits.
fn told(text: &str, len_max: usize) -> String {
    text.chars().take(len_max).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn order(reply: &WireReply, key: Option<BrokerKey>) -> Result<SeenOrder, String> {
    let order: OrderEntity =
        serde_json::from_slice(&reply.body).map_err(|error| format!("{}: {error}", strange(reply)))?;
    if key.is_some_and(|key| order.client_order_id != key.to_string()) {
        return Err(format!("HTTP {} about another order", reply.status));
    }
    let broker_order_id = BrokerOrderId::new(order.id.to_string()).map_err(|error| error.to_string())?;
    Ok(SeenOrder {
        broker_order_id,
        key: order.client_order_id,
        is_terminal: order.status.is_terminal(),
        status: told(order.status.as_str(), WORD_LEN_MAX),
        cumulative_quantity: order.filled_qty,
        symbol: order.symbol,
        side: order.side.as_str().to_owned(),
        order_type: order.order_type.as_str().to_owned(),
        time_in_force: order.time_in_force.as_str().to_owned(),
        quantity: order.qty,
        limit_price: order.limit_price,
    })
}

fn strange(reply: &WireReply) -> String {
    let excerpt = told(&String::from_utf8_lossy(&reply.body), EXCERPT_LEN_MAX);
    format!("HTTP {} with {} bytes: {excerpt}", reply.status, reply.body.len())
}
