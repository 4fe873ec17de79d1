//! What a broker changes afterwards.

use super::*;
use crate::broker::exchange::{AdjustError, BustFilter};
use crate::broker::order::ExecutionKind;
use crate::broker::universe;

const SECOND: Duration = Duration::SECOND;

fn position(exchange: &Exchange, symbol: &str) -> Decimal {
    let (instrument, _) = universe::find(symbol).unwrap();
    exchange.accounts.first().unwrap().positions.get(&instrument).map_or(Decimal::ZERO, |position| position.qty)
}

fn cash(exchange: &Exchange) -> Decimal {
    exchange.accounts.first().unwrap().cash
}

fn execution_id(exchange: &Exchange, key: &str) -> Uuid {
    let order = exchange.orders().iter().find(|order| order.terms.key() == key).unwrap();
    order.executions.first().unwrap().execution_id
}

#[test]
fn everything_since_a_time_is_taken_back_once_and_nothing_before() {
    let mut exchange = exchange(1);
    let before = cash(&exchange);
    submit(&mut exchange, &market("old", "AAPL", "2"));
    exchange.advance(NOON + SECOND);
    submit(&mut exchange, &market("new", "AAPL", "3"));
    submit(&mut exchange, &market("other", "KO", "5"));
    let filter = BustFilter { since: Some(NOON + SECOND), ..BustFilter::default() };
    assert_eq!(exchange.bust(&filter), 2);
    assert_eq!(exchange.bust(&filter), 0, "what was taken back cannot be taken back again");
    assert_eq!((position(&exchange, "AAPL"), position(&exchange, "KO")), (Decimal::TWO, Decimal::ZERO));
    assert_eq!(cash(&exchange), before - Decimal::new(18_712, 2) * Decimal::TWO);

    let told = events_of(&exchange, "new");
    let [.., fill, bust] = told.as_slice() else { panic!("a fill and its bust") };
    assert_eq!(bust.event, TradeEventKind::TradeBust);
    assert_eq!(bust.previous_execution_id, fill.execution_id);
    assert_ne!(bust.execution_id, fill.execution_id);
    assert_eq!((bust.qty, bust.order.filled_qty), (Some(Decimal::from(-3)), Decimal::ZERO));
    assert_eq!(bust.order.status, OrderStatus::Filled, "the status stays");
    assert!(events_of(&exchange, "old").iter().all(|event| event.event != TradeEventKind::TradeBust));
}

#[test]
fn a_bust_of_a_part_does_not_make_the_broker_work_it_again() {
    let mut exchange = exchange(1);
    exchange.configure(json!({"partial_gap_ms": 1000})).unwrap();
    fault(&mut exchange, "k1", FaultKind::PartialFills, Call::Submit, 0);
    fault(&mut exchange, "k1", FaultKind::Bust, Call::Submit, 100);
    submit(&mut exchange, &market("k1", "AAPL", "10"));
    let first = lookup(&mut exchange, "k1").filled_qty;
    assert!(first > Decimal::ZERO && first < Decimal::TEN);
    for n in 1..20 {
        exchange.advance(NOON + SECOND * n);
    }
    let order = lookup(&mut exchange, "k1");
    assert_eq!((order.status, order.filled_qty), (OrderStatus::Filled, Decimal::TEN - first));
    assert_eq!(position(&exchange, "AAPL"), Decimal::TEN - first);
    assert_eq!((hits(&exchange, FaultKind::Bust), hits(&exchange, FaultKind::PartialFills)), (1, 1));
}

#[test]
fn a_correction_replaces_the_figures_and_can_be_taken_back_itself() {
    let mut exchange = exchange(1);
    let before = cash(&exchange);
    submit(&mut exchange, &market("k1", "AAPL", "4"));
    let id = execution_id(&exchange, "k1");
    let (qty, price) = (Decimal::from(3), Decimal::new(18_700, 2));
    let corrected = exchange.correct(id, Some(qty), Some(price)).unwrap();
    assert_eq!((position(&exchange, "AAPL"), cash(&exchange)), (qty, before - qty * price));
    assert_eq!(lookup(&mut exchange, "k1").filled_avg_price, Some(price));
    assert_eq!(exchange.correct(id, None, Some(price)), Err(AdjustError::Execution), "it does not stand any more");
    assert_eq!(exchange.correct(corrected, Some(Decimal::TEN), None), Err(AdjustError::Quantity));
    assert_eq!(exchange.bust(&BustFilter::default()), 1);
    assert_eq!((position(&exchange, "AAPL"), cash(&exchange)), (Decimal::ZERO, before));
    let told = events_of(&exchange, "k1");
    assert_eq!(kinds(&told), ["new", "fill", "trade_correct", "trade_bust"]);
    assert_eq!(told.last().unwrap().previous_execution_id, Some(corrected.to_string()));
    let reports: Vec<_> = exchange.orders()[0].executions.iter().map(|report| report.kind).collect();
    assert_eq!(reports, [ExecutionKind::Trade, ExecutionKind::Correct, ExecutionKind::Bust]);
}

#[test]
fn a_correction_by_fault_moves_the_price_by_a_cent() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::Correct, Call::Submit, 100);
    submit(&mut exchange, &market("k1", "AAPL", "4"));
    exchange.advance(NOON + SECOND);
    assert_eq!(lookup(&mut exchange, "k1").filled_avg_price, Some(Decimal::new(18_713, 2)));
}

#[test]
fn a_trade_that_was_kept_back_comes_late_with_its_own_time_also_after_a_cancel() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::Backfill, Call::Submit, 5_000);
    let id = entity(&submit(&mut exchange, &market("k1", "AAPL", "4"))).id;
    assert_eq!(lookup(&mut exchange, "k1").filled_qty, Decimal::ZERO);
    exchange.advance(NOON + SECOND);
    assert_eq!(exchange.cancel(ACCOUNT, id).status, 204);
    exchange.advance(NOON + SECOND * 6);
    let order = lookup(&mut exchange, "k1");
    assert_eq!((order.status, order.filled_qty), (OrderStatus::Canceled, Decimal::from(4)));
    let told = events_of(&exchange, "k1");
    assert_eq!(kinds(&told), ["new", "canceled", "partial_fill"]);
    let fill = told.last().unwrap();
    assert_eq!((fill.timestamp, fill.at), (Some(NOON), Some(NOON + SECOND * 6)));
}

#[test]
fn an_operator_tells_a_trade_of_the_past_up_to_what_is_left() {
    let mut exchange = exchange(1);
    submit(&mut exchange, &limit("k1", "AAPL", "4", "1.00"));
    exchange.advance(NOON + SECOND);
    let half = Some(Decimal::TWO);
    exchange.backfill("k1", half, Some(Decimal::ONE), NOON).unwrap();
    assert_eq!(exchange.backfill("k1", Some(Decimal::from(3)), None, NOON), Err(AdjustError::Quantity));
    assert_eq!(exchange.backfill("none", None, None, NOON), Err(AdjustError::Order));
    exchange.backfill("k1", None, None, NOON - SECOND).unwrap();
    let order = lookup(&mut exchange, "k1");
    assert_eq!((order.status, order.filled_qty), (OrderStatus::Filled, Decimal::from(4)));
    assert_eq!(exchange.open_len(), 0);
}

#[test]
fn a_split_changes_positions_and_prices_and_cancels_the_open_orders() {
    let mut exchange = exchange(1);
    submit(&mut exchange, &market("held", "AAPL", "3"));
    submit(&mut exchange, &limit("open", "AAPL", "1", "1.00"));
    submit(&mut exchange, &limit("else", "KO", "1", "1.00"));
    assert_eq!(exchange.split("AAPL", 4, 1), Ok(1));
    assert_eq!(position(&exchange, "AAPL"), Decimal::from(12));
    let price = exchange.latest_trades(["AAPL"].into_iter()).first().unwrap().1;
    assert_eq!(price, Decimal::new(4_678, 2));
    assert_eq!(lookup(&mut exchange, "open").status, OrderStatus::Canceled);
    assert_eq!(lookup(&mut exchange, "else").status, OrderStatus::New);
    assert_eq!(exchange.split("AAPL", 1, 1), Err(AdjustError::Ratio));
    assert_eq!(exchange.split("NONE", 2, 1), Err(AdjustError::Symbol));
}

#[test]
fn a_halted_symbol_takes_orders_and_trades_them_when_the_halt_ends() {
    let mut exchange = exchange(1);
    exchange.configure(json!({"halted": ["AAPL"]})).unwrap();
    submit(&mut exchange, &market("market", "AAPL", "1"));
    submit(&mut exchange, &limit("limit", "AAPL", "1", "500.00"));
    submit(&mut exchange, &market("else", "KO", "1"));
    exchange.tick();
    exchange.advance(NOON + SECOND);
    let status = |exchange: &mut Exchange, key| lookup(exchange, key).status;
    assert_eq!(status(&mut exchange, "market"), OrderStatus::New);
    assert_eq!(status(&mut exchange, "limit"), OrderStatus::New);
    assert_eq!(status(&mut exchange, "else"), OrderStatus::Filled);
    exchange.configure(json!({"halted": []})).unwrap();
    exchange.advance(NOON + SECOND);
    exchange.tick();
    assert_eq!(status(&mut exchange, "market"), OrderStatus::Filled);
    assert_eq!(status(&mut exchange, "limit"), OrderStatus::Filled);
}

#[test]
fn a_cancel_refused_by_an_event_leaves_the_order_working() {
    let mut exchange = exchange(1);
    let id = entity(&submit(&mut exchange, &limit("k1", "AAPL", "1", "1.00"))).id;
    fault(&mut exchange, "k1", FaultKind::CancelRejectedLate, Call::Cancel, 100);
    assert_eq!(exchange.cancel(ACCOUNT, id).status, 204);
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::PendingCancel);
    exchange.advance(NOON + SECOND);
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::New);
    assert_eq!(kinds(&events_of(&exchange, "k1")), ["new", "order_cancel_rejected"]);
    assert_eq!(exchange.cancel(ACCOUNT, id).status, 204);
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::Canceled);
}
