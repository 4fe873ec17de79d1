//! Deciding a customer's commands: place and cancel. Checks everything before it changes anything.

use super::account::{Account, Moved, Posting};
use super::asset::{Asset, ReferencePrice};
use super::facts::{Facts, Submit};
use super::hold::{Charges, Hold, required};
use super::journal::{Cause, Ledger, Line};
use super::order::{Order, Times};
use super::refusal::Refusal;
use super::status::Status;
use contracts::{ClientOrderId, OrderId, OrderTerms, OrderType, Side};
use rust_decimal::Decimal;
use time::{Duration, OffsetDateTime};

/// A new order as it entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// Minted at entry and kept over every retry.
    pub id: OrderId,
    /// Given by the client, or minted at entry.
    pub client_order_id: ClientOrderId,
    /// What is asked for.
    pub terms: OrderTerms,
}

/// What deciding a new order needs to know besides the account.
#[derive(Debug, Clone, Copy)]
pub struct PlaceContext<'a> {
    /// The asset, if it is listed.
    pub asset: Option<&'a Asset>,
    /// Its last known price.
    pub reference: Option<ReferencePrice>,
    /// How old that price may be.
    pub reference_age_max: Duration,
    /// Whether the market is open now.
    pub open: bool,
    /// What we charge.
    pub charges: Charges,
    /// Now.
    pub now: OffsetDateTime,
}

/// Decides a new order: reserves what it needs and returns it, or refuses and changes nothing.
///
/// # Errors
/// [`Refusal`], typed.
pub fn place(
    account: &mut Account,
    new: NewOrder,
    context: &PlaceContext<'_>,
    lines: &mut Vec<Line>,
) -> Result<Order, Refusal> {
    let symbol = new.terms.symbol().clone();
    let asset = context.asset.ok_or_else(|| Refusal::UnknownAsset(symbol.clone()))?;
    if !asset.tradable {
        return Err(Refusal::NotTradable(symbol));
    }
    if !asset.fractionable && !new.terms.quantity().value().fract().is_zero() {
        return Err(Refusal::NotFractionable(symbol));
    }
    if let Some(reason) = account.restriction() {
        return Err(Refusal::Restricted(reason));
    }
    let submit = if context.open { Submit::Queued } else { Submit::Reserved };
    let mut order = Order {
        id: new.id,
        account_id: account.id,
        client_order_id: new.client_order_id,
        hold_price: hold_price(&new.terms, context)?,
        terms: new.terms,
        asset_id: asset.id,
        facts: Facts::new(submit),
        hold: Hold::default(),
        commission: Decimal::ZERO,
        broker: None,
        broker_order_id: None,
        reason: None,
        times: Times { accepted: context.now, updated: context.now, cancel_requested: None, ended: None },
    };
    let hold = required(&order, &context.charges)?;
    reserve(account, &order, hold, "order.accepted", lines)?;
    order.hold = hold;
    Ok(order)
}

/// Takes what an order must hold from what is available, or refuses.
fn reserve(
    account: &mut Account,
    order: &Order,
    hold: Hold,
    cause: &'static str,
    lines: &mut Vec<Line>,
) -> Result<(), Refusal> {
    let symbol = order.terms.symbol();
    let cause = Cause { kind: cause, id: order.id.as_uuid() };
    let mut posting = Posting { order_id: Some(order.id), cause, lines };
    match order.terms.side() {
        Side::Buy => {
            let available = account.cash.available;
            if hold.cash > available {
                return Err(Refusal::InsufficientBuyingPower { available, required: hold.cash });
            }
            account.transfer(Moved::Cash, Ledger::Available, Ledger::Held, hold.cash, &mut posting)?;
        }
        Side::Sell => {
            let shares = account.balance(Moved::Shares(symbol));
            if hold.shares > shares.available {
                return Err(Refusal::InsufficientQuantity {
                    symbol: symbol.clone(),
                    existing: shares.available + shares.held,
                    held: shares.held,
                    available: shares.available,
                    requested: hold.shares,
                });
            }
            account.transfer(Moved::Shares(symbol), Ledger::Available, Ledger::Held, hold.shares, &mut posting)?;
        }
    }
    Ok(())
}

/// The price a buy holds by. A market order needs a fresh reference price on either side: without
/// one nobody can say what it would cost.
fn hold_price(terms: &OrderTerms, context: &PlaceContext<'_>) -> Result<Decimal, Refusal> {
    match (terms.order_type(), terms.limit_price()) {
        (OrderType::Limit, Some(limit)) => Ok(limit.value()),
        (OrderType::Market | OrderType::Limit, _) => {
            let fresh = context.reference.filter(|r| context.now - r.at <= context.reference_age_max);
            let reference = fresh.ok_or_else(|| Refusal::NoReferencePrice(terms.symbol().clone()))?;
            Ok(context.charges.collar_price(reference.price.value())?)
        }
    }
}

/// What a cancel request leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelDecision {
    /// It was still reserved here, and is canceled.
    CanceledHere,
    /// The gateway is to cancel it; this is request number so many.
    AskGateway {
        /// Counted from 1.
        request: i32,
    },
    /// A cancel is under way already.
    AlreadyRequested,
}

/// Decides a cancel request.
///
/// | status | answer |
/// |---|---|
/// | reserved | canceled here: it never left |
/// | pending send, sent, working, partially filled | ask the gateway, which alone knows if it left |
/// | in doubt, manual | ask the gateway: it stops resending, and cancels once it knows the broker's id |
/// | pending cancel | nothing new; the first request stands |
/// | filled, canceled, expired, rejected | refused |
///
/// # Errors
/// [`Refusal::NotCancelable`] at the end of an order.
pub fn cancel(
    account: &mut Account,
    order: &mut Order,
    charges: &Charges,
    now: OffsetDateTime,
    lines: &mut Vec<Line>,
) -> Result<CancelDecision, Refusal> {
    let status = order.status();
    match status {
        Status::Filled | Status::Canceled | Status::Expired | Status::Rejected => {
            Err(Refusal::NotCancelable { status })
        }
        Status::PendingCancel => Ok(CancelDecision::AlreadyRequested),
        Status::InDoubt | Status::Manual if order.facts.cancel_requests > order.facts.cancels_refused => {
            Ok(CancelDecision::AlreadyRequested)
        }
        Status::Reserved => {
            order.facts.cancel_requests += 1;
            order.facts.raise_submit(Submit::Withdrawn);
            order.times.cancel_requested = Some(now);
            let cause = Cause { kind: "order.withdrawn", id: order.id.as_uuid() };
            super::reply::settle_hold(account, order, charges, cause, lines)?;
            order.touch(now);
            Ok(CancelDecision::CanceledHere)
        }
        Status::PendingSend | Status::Working | Status::PartiallyFilled | Status::InDoubt | Status::Manual => {
            order.facts.cancel_requests += 1;
            order.times.cancel_requested = order.times.cancel_requested.or(Some(now));
            order.touch(now);
            Ok(CancelDecision::AskGateway { request: order.facts.cancel_requests })
        }
    }
}

/// Releases a reserved order into its session. Everything is checked again: the asset, the account,
/// and for a market order the price, since what it would cost may have moved while it waited; its
/// hold is made anew at the price of now.
///
/// # Errors
/// [`Refusal`]: passing while there is no fresh price; otherwise the caller ends the order. Nothing
/// is changed then.
pub fn release(
    account: &mut Account,
    order: &mut Order,
    context: &PlaceContext<'_>,
    lines: &mut Vec<Line>,
) -> Result<(), Refusal> {
    let symbol = order.terms.symbol();
    match context.asset {
        None => return Err(Refusal::UnknownAsset(symbol.clone())),
        Some(asset) if !asset.tradable => return Err(Refusal::NotTradable(symbol.clone())),
        Some(_) => {}
    }
    if let Some(reason) = account.restriction() {
        return Err(Refusal::Restricted(reason));
    }
    let released = Order { hold_price: hold_price(&order.terms, context)?, ..order.clone() };
    let hold = required(&released, &context.charges)?;
    let missing = hold.cash - order.hold.cash;
    if missing > account.cash.available {
        return Err(Refusal::InsufficientBuyingPower { available: account.cash.available, required: missing });
    }
    let cause = Cause { kind: "order.released", id: order.id.as_uuid() };
    let mut released = released;
    super::reply::settle_hold(account, &mut released, &context.charges, cause, lines)?;
    released.facts.raise_submit(Submit::Queued);
    released.touch(context.now);
    *order = released;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::account::tests::account;
    use super::*;
    use contracts::{Price, Quantity, Symbol, TimeInForce};
    use uuid::Uuid;

    pub(crate) fn asset() -> Asset {
        Asset {
            id: Uuid::from_u128(7),
            symbol: Symbol::new("AAPL").unwrap(),
            name: "Apple".to_owned(),
            exchange: "NASDAQ".to_owned(),
            tradable: true,
            fractionable: true,
        }
    }

    pub(crate) fn charges() -> Charges {
        Charges { commission_bps: Decimal::from(10), collar_bps: Decimal::from(500) }
    }

    pub(crate) fn context(asset: &Asset) -> PlaceContext<'_> {
        PlaceContext {
            asset: Some(asset),
            reference: Some(ReferencePrice { price: Price::parse("100").unwrap(), at: OffsetDateTime::UNIX_EPOCH }),
            reference_age_max: Duration::seconds(60),
            open: true,
            charges: charges(),
            now: OffsetDateTime::UNIX_EPOCH,
        }
    }

    pub(crate) fn order_for(side: Side, quantity: &str, limit: Option<&str>) -> NewOrder {
        let order_type = if limit.is_some() { OrderType::Limit } else { OrderType::Market };
        NewOrder {
            id: OrderId::new(Uuid::from_u128(9)),
            client_order_id: ClientOrderId::new("c-1").unwrap(),
            terms: OrderTerms::new(
                Symbol::new("AAPL").unwrap(),
                side,
                order_type,
                TimeInForce::Day,
                Quantity::parse(quantity).unwrap(),
                limit.map(|text| Price::parse(text).unwrap()),
            )
            .unwrap(),
        }
    }

    #[test]
    fn a_buy_holds_limit_times_quantity_plus_commission() {
        let (mut a, asset, mut lines) = (account(10_000), asset(), Vec::new());
        let order = place(&mut a, order_for(Side::Buy, "10", Some("100")), &context(&asset), &mut lines).unwrap();
        assert_eq!(order.hold.cash, Decimal::from(1001));
        assert_eq!((a.cash.available, a.cash.held), (Decimal::from(8999), Decimal::from(1001)));
    }

    #[test]
    fn a_market_buy_holds_the_collar_and_is_refused_without_a_fresh_price() {
        let (mut a, asset, mut lines) = (account(10_000), asset(), Vec::new());
        let mut c = context(&asset);
        let order = place(&mut a, order_for(Side::Buy, "10", None), &c, &mut lines).unwrap();
        assert_eq!(order.hold_price, Decimal::from(105));
        c.now += Duration::seconds(61);
        let refused = place(&mut a, order_for(Side::Buy, "1", None), &c, &mut lines);
        assert!(matches!(refused, Err(Refusal::NoReferencePrice(_))));
    }

    #[test]
    fn a_refused_order_changes_nothing() {
        let (mut a, asset, mut lines) = (account(1000), asset(), Vec::new());
        let before = a.clone();
        for new in [order_for(Side::Buy, "10", Some("100")), order_for(Side::Sell, "1", Some("100"))] {
            assert!(place(&mut a, new, &context(&asset), &mut lines).is_err());
        }
        assert_eq!((a, lines.len()), (before, 0));
    }

    #[test]
    fn a_reserved_order_is_cancelled_here_and_frees_its_hold() {
        let (mut a, asset, mut lines) = (account(10_000), asset(), Vec::new());
        let mut c = context(&asset);
        c.open = false;
        let mut order = place(&mut a, order_for(Side::Buy, "10", Some("100")), &c, &mut lines).unwrap();
        let decision = cancel(&mut a, &mut order, &charges(), c.now, &mut lines).unwrap();
        assert_eq!((decision, order.status()), (CancelDecision::CanceledHere, Status::Canceled));
        assert_eq!(a.cash.held, Decimal::ZERO);
    }

    #[test]
    fn a_market_order_that_waited_holds_by_the_price_of_its_release_or_ends() {
        let (asset, mut lines) = (asset(), Vec::new());
        let closed = PlaceContext { open: false, ..context(&asset) };
        let dearer = ReferencePrice { price: Price::parse("150").unwrap(), at: closed.now };
        let at_open = PlaceContext { reference: Some(dearer), ..context(&asset) };
        let mut rich = account(10_000);
        let mut order = place(&mut rich, order_for(Side::Buy, "10", None), &closed, &mut lines).unwrap();
        release(&mut rich, &mut order, &at_open, &mut lines).unwrap();
        assert_eq!((order.hold.cash, rich.cash.held), (Decimal::new(157_658, 2), Decimal::new(157_658, 2)));
        let mut poor = account(1100);
        let mut order = place(&mut poor, order_for(Side::Buy, "10", None), &closed, &mut lines).unwrap();
        let before = (poor.clone(), order.clone());
        let refused = release(&mut poor, &mut order, &at_open, &mut lines);
        assert!(matches!(refused, Err(Refusal::InsufficientBuyingPower { .. })), "{refused:?}");
        assert_eq!((poor, order), before);
    }

    #[test]
    fn an_order_that_may_have_left_is_never_cancelled_here() {
        let (mut a, asset, mut lines) = (account(10_000), asset(), Vec::new());
        let mut order = place(&mut a, order_for(Side::Buy, "10", Some("100")), &context(&asset), &mut lines).unwrap();
        for submit in [Submit::Queued, Submit::InDoubt, Submit::Live] {
            let mut order = Order { facts: Facts::new(submit), ..order.clone() };
            let decision = cancel(&mut a, &mut order, &charges(), OffsetDateTime::UNIX_EPOCH, &mut lines).unwrap();
            assert_eq!(decision, CancelDecision::AskGateway { request: 1 });
            assert!(!order.status().is_terminal());
        }
        order.facts.executed.gross_quantity = Decimal::TEN;
        let refused = cancel(&mut a, &mut order, &charges(), OffsetDateTime::UNIX_EPOCH, &mut lines);
        assert_eq!(refused, Err(Refusal::NotCancelable { status: Status::Filled }));
    }
}
