use super::*;
use crate::application::store::Halts;
use crate::domain::account::tests::account;
use crate::domain::place::tests::{asset, charges, context, order_for};
use contracts::Side;
use std::collections::BTreeSet;

/// The books of an account with one reserved order, and what is halted.
fn reserved(halt_reason: Option<&str>, halts: Halts) -> (Books, AccountId, OrderId) {
    let asset = asset();
    let closed = PlaceContext { open: false, ..context(&asset) };
    let mut account = account(1000);
    let new = order_for(Side::Buy, "1", Some("100"));
    let order = place::place(&mut account, new, &closed, &mut Vec::new()).unwrap();
    account.halt_reason = halt_reason.map(str::to_owned);
    let (id, account_id) = (order.id, account.id);
    let snapshot = Snapshot {
        accounts: BTreeMap::from([(account_id, account)]),
        orders: BTreeMap::from([(id, order)]),
        halts,
        ..Snapshot::default()
    };
    (Books::open(snapshot, charges(), closed.now), account_id, id)
}

#[test]
fn a_halt_that_came_after_the_list_of_reserved_orders_was_read_still_keeps_them() {
    let asset = asset();
    let symbol = asset.symbol.clone();
    let market = Halts { market: true, ..Halts::default() };
    let one = Halts { symbols: BTreeSet::from([symbol]), ..Halts::default() };
    for (reason, halts) in [(Some("review"), Halts::default()), (None, market), (None, one)] {
        let (mut books, account, order) = reserved(reason, halts.clone());
        books.release(account, order, &context(&asset)).unwrap();
        assert!(books.close().is_empty(), "{reason:?} {halts:?}");
    }
    let (mut books, account, order) = reserved(None, Halts::default());
    books.release(account, order, &context(&asset)).unwrap();
    assert_eq!(books.close()[0].events.len(), 1);
}
