//! How an update looks in the dialect: the trade event of its streams.

use super::entity::{self, Shown};
use crate::application::updates::StoredUpdate;
use crate::domain::execution::Executed;
use contracts::ExecutionId;
use contracts::alpaca::{TradeEvent, TradeEventKind};
use rust_decimal::Decimal;
use uuid::Uuid;

/// Namespace of the ids that stand for executions whose broker's id is no UUID.
const EXECUTIONS: Uuid = Uuid::from_u128(0x8d0f_3c5e_6a41_4b7e_9a53_2f1d_07c6_b9e4);

/// An update for the owner of its order.
pub(super) fn trade_event(update: &StoredUpdate) -> TradeEvent {
    let execution = update.execution.as_ref();
    let filled_some = update.filled_quantity > Decimal::ZERO;
    let order = entity::shown(&Shown {
        id: update.order_id,
        client_order_id: &update.client_order_id,
        terms: &update.terms,
        asset_id: update.asset_id,
        accepted: update.accepted_at,
        updated: update.mark.at,
        cancel_requested: update.cancel_requested_at,
        ended: update.ended_at,
        status: update.status,
        word: update.status.word(filled_some),
        executed: Executed {
            gross_quantity: update.filled_quantity,
            net_quantity: update.filled_quantity,
            net_notional: update.filled_notional,
        },
        commission: Decimal::ZERO,
    });
    TradeEvent {
        account_id: update.account_id.to_string(),
        at: Some(update.mark.at),
        event: TradeEventKind::from(update.event.as_str()),
        event_id: update.id().to_string(),
        execution_id: execution.map(|e| execution_uuid(&e.execution_id)),
        order,
        timestamp: Some(execution.map_or(update.mark.at, |e| e.at)),
        price: execution.and_then(|e| e.price),
        qty: execution.and_then(|e| e.quantity),
        position_qty: execution.map(|e| e.position_quantity),
        previous_execution_id: execution.and_then(|e| e.previous.as_ref()).map(execution_uuid),
    }
}

/// Client libraries demand a UUID; a broker's id that is none becomes one by its name alone, so that
/// a correction still names what it corrects.
fn execution_uuid(id: &ExecutionId) -> String {
    Uuid::try_parse(id.as_str()).unwrap_or_else(|_| Uuid::new_v5(&EXECUTIONS, id.as_str().as_bytes())).to_string()
}
