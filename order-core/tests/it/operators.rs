//! What operators may do to an account, against everything else that happens to it.

use crate::world::{Flow, World, limit, movement, operator, place, system_clock};
use contracts::calendar::MarketHours;
use contracts::{AccountId, Currency, Money, Side, Symbol};
use order_core::adapters::db::PgStore;
use order_core::application::command::{CommandError, Commands, HaltAccount, Withdrawal};
use order_core::application::operator::{
    AccountMade, AccountRequest, Action, ActionFilter, HaltOutcome, KeyRotation, Operations,
};
use order_core::application::query::{ApiKey, Queries};
use order_core::application::store::Store;
use order_core::application::updates::UpdateReads;
use order_core::domain::refusal::{Halt, Refusal};
use order_core::domain::status::Status;
use platform::clock::SystemIds;
use platform::testing::eventually;
use rust_decimal::Decimal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::datetime;

fn usd(amount: &str) -> Money {
    Money::parse(amount, Currency::USD).unwrap()
}

fn withdrawal(account: AccountId, amount: &str, reference: &str) -> Withdrawal {
    Withdrawal(movement(account, usd(amount), reference))
}

fn halt(account_id: AccountId, reason: Option<&str>) -> HaltAccount {
    let halt_reason = reason.map(str::to_owned);
    HaltAccount { account_id, halt_reason, reason: Some("review".to_owned()), actor: operator() }
}

fn action(kind: &'static str, subject: &str) -> Action {
    Action {
        actor: operator(),
        kind,
        account_id: None,
        subject: subject.to_owned(),
        reason: Some("news".to_owned()),
        terms: String::new(),
    }
}

async fn kinds_done(world: &World) -> Vec<String> {
    let filter = ActionFilter { account_id: None, before: None, limit: 100 };
    world.store.actions(filter).await.unwrap().into_iter().rev().map(|action| action.action).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_counts_once_by_its_reference_and_never_takes_what_is_held() {
    let world = World::new().await;
    let account = world.account("1000").await;
    place(&world.shards, account, "c-1", limit(Side::Buy, "6", "100")).await.unwrap();
    let short = world.shards.withdraw(withdrawal(account, "400.01", "w-1")).await;
    assert!(matches!(short, Err(CommandError::Refused(Refusal::InsufficientCash { .. }))), "{short:?}");
    world.shards.withdraw(withdrawal(account, "400", "w-1")).await.unwrap();
    world.shards.withdraw(withdrawal(account, "400.00", "w-1")).await.unwrap();
    let other = world.shards.withdraw(withdrawal(account, "1", "w-1")).await;
    assert!(matches!(other, Err(CommandError::ReferenceConflict)), "{other:?}");
    let cash = world.cash(account).await;
    assert_eq!((cash.available, cash.held), (Decimal::ZERO, Decimal::from(600)));
    let lines =
        "select count(*) from journal_lines where cause = 'withdrawal' and debit = 'available' and credit = 'bank'";
    assert_eq!(world.count(lines).await, 1);
    assert_eq!(kinds_done(&world).await, ["account.made", "deposit", "withdrawal"]);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_owes_shares_withdraws_nothing() {
    let world = World::new().await;
    let account = world.account("1000").await;
    sqlx::query("insert into positions (account_id, symbol, shares_shortfall) values ($1, 'AAPL', 10)")
        .bind(account.as_uuid())
        .execute(&world.database.pool)
        .await
        .unwrap();
    let refused = world.shards.withdraw(withdrawal(account, "1", "w-1")).await;
    assert!(matches!(refused, Err(CommandError::Refused(Refusal::Restricted(_)))), "{refused:?}");
    assert_eq!(world.cash(account).await.available, Decimal::from(1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawals_and_orders_of_two_copies_never_spend_one_balance_twice() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let copies = [world.shards.clone(), world.another()];
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..20 {
        let shards = copies[n % 2].clone();
        tries.spawn(async move {
            if n % 4 < 2 {
                shards.withdraw(withdrawal(account, "300", &format!("w-{n}"))).await
            } else {
                place(&shards, account, &format!("c-{n}"), limit(Side::Buy, "3", "100")).await.map(|_| ())
            }
        });
    }
    let answers = tries.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3, "{answers:?}");
    let cash = world.cash(account).await;
    assert_eq!(cash.available, Decimal::from(100));
    world.audit().await;
}

#[tokio::test]
async fn a_withdrawal_waits_for_the_person_that_an_event_waits_for() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let poison = world.log.raw_slice(
        contracts::event::Producer::FillReceiver,
        contracts::Partition::of_account(account),
        vec![("broker.unheard_of".to_owned(), "{}".to_owned())],
    );
    let mut poison = poison;
    poison.events[0].account_id = Some(account);
    world.shards.apply(poison).await.unwrap();
    let refused = world.shards.withdraw(withdrawal(account, "1", "w-1")).await;
    assert!(matches!(refused, Err(CommandError::Refused(Refusal::Restricted(_)))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn once_an_account_is_halted_no_copy_accepts_an_order_of_it() {
    let world = World::new().await;
    let account = world.account("1000000").await;
    let copies = [world.shards.clone(), world.another()];
    let halted = Arc::new(AtomicBool::new(false));
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..40 {
        let (shards, halted) = (copies[n % 2].clone(), Arc::clone(&halted));
        tries.spawn(async move {
            let mut late = 0;
            for m in 0..20 {
                let known = halted.load(Ordering::SeqCst);
                let answer = place(&shards, account, &format!("c-{n}-{m}"), limit(Side::Buy, "1", "10")).await;
                match answer {
                    Ok(_) if known => late += 1,
                    Ok(_) => {}
                    Err(CommandError::Refused(Refusal::Halted(Halt::Account))) => return late,
                    Err(other) => panic!("{other:?}"),
                }
            }
            late
        });
    }
    world.shards.halt(halt(account, Some("review"))).await.unwrap();
    halted.store(true, Ordering::SeqCst);
    assert_eq!(tries.join_all().await.into_iter().sum::<i32>(), 0, "accepted after the halt was answered");
    let late = place(&copies[1], account, "late", limit(Side::Buy, "1", "10")).await;
    assert!(matches!(late, Err(CommandError::Refused(Refusal::Halted(Halt::Account)))), "{late:?}");
    world.audit().await;
}

#[tokio::test]
async fn a_halted_account_may_cancel_and_gets_its_old_answers_and_trades_on_once_it_is_lifted() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "1", "100")).await.unwrap().order;
    world.shards.halt(halt(account, Some("review"))).await.unwrap();
    world.shards.halt(halt(account, Some("review"))).await.unwrap();
    assert!(place(&world.shards, account, "c-1", limit(Side::Buy, "1", "100")).await.unwrap().replayed);
    world.shards.cancel(account, order.id).await.unwrap();
    assert_eq!(world.order(account, order.id).await.facts.cancel_requests, 1);
    assert_eq!(world.store.account(account).await.unwrap().unwrap().halt_reason.as_deref(), Some("review"));
    world.shards.halt(halt(account, None)).await.unwrap();
    place(&world.shards, account, "c-2", limit(Side::Buy, "1", "100")).await.unwrap();
    assert_eq!(kinds_done(&world).await, ["account.made", "deposit", "halt.set", "halt.lifted"]);
    world.audit().await;
}

#[tokio::test]
async fn halts_of_a_symbol_and_of_the_market_hold_in_every_copy_at_once() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let other = world.another();
    let symbol = Symbol::new("AAPL").unwrap();
    let now = OffsetDateTime::now_utc();
    let elsewhere = Symbol::new("MSFT").unwrap();
    world.store.halt(Some(&elsewhere), &action("halt.set", "MSFT"), now).await.unwrap();
    place(&other, account, "c-0", limit(Side::Buy, "1", "10")).await.unwrap();
    for (n, what, expected) in [(1, Some(&symbol), Halt::Symbol(symbol.clone())), (2, None, Halt::Market)] {
        let set = action("halt.set", "x");
        assert_eq!(world.store.halt(what, &set, now).await.unwrap(), HaltOutcome::Done);
        assert_eq!(world.store.halt(what, &set, now).await.unwrap(), HaltOutcome::Already);
        for (copy, shards) in [&world.shards, &other].into_iter().enumerate() {
            let refused = place(shards, account, &format!("c-{n}-{copy}"), limit(Side::Buy, "1", "10")).await;
            let Err(CommandError::Refused(Refusal::Halted(halt))) = refused else { panic!("{refused:?}") };
            assert_eq!(halt, expected);
        }
        assert_eq!(world.store.lift(what, &action("halt.lifted", "x"), now).await.unwrap(), HaltOutcome::Done);
        place(&other, account, &format!("c-{n}"), limit(Side::Buy, "1", "10")).await.unwrap();
    }
    assert_eq!(world.store.halts().await.unwrap().len(), 1);
    world.audit().await;
}

#[tokio::test]
async fn reserved_orders_without_a_price_do_not_stand_in_the_way_of_younger_ones() {
    let open = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&open);
    let clock = Arc::new(move || {
        let (sunday, monday) = (datetime!(2026-11-22 12:00 UTC), datetime!(2026-11-23 15:00 UTC));
        if opened.load(Ordering::SeqCst) { monday } else { sunday }
    });
    let world = World::at(MarketHours::Real, clock).await;
    let account = world.account("1000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "1", "100")).await.unwrap().order;
    // More than one look takes, all older, and for none of them there is a price to hold by.
    sqlx::query(
        "insert into orders (id, client_order_id, symbol, order_type, account_id, partition, terms_hash, asset_id, side,
             time_in_force, quantity, hold_price, submit, hold_cash, hold_shares, status, closed, accepted_at, updated_at)
         select ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'm-' || n, 'GOOG', 'market',
             o.account_id, o.partition, o.terms_hash, o.asset_id, o.side, o.time_in_force, o.quantity, o.hold_price,
             o.submit, o.hold_cash, o.hold_shares, o.status, o.closed, o.accepted_at, o.updated_at
         from orders o, generate_series(1, 450) n where o.id = $1",
    )
    .bind(order.id.as_uuid())
    .execute(&world.database.pool)
    .await
    .unwrap();
    open.store(true, Ordering::SeqCst);
    let released = || async { world.order(account, order.id).await.status() == Status::PendingSend };
    assert!(eventually(Duration::from_secs(20), released).await);
    assert_eq!(world.count("select count(*) from orders where status = 'reserved' and symbol = 'GOOG'").await, 450);
}

#[tokio::test]
async fn a_reserved_order_stays_reserved_while_a_halt_lasts_and_is_released_after_it() {
    for case in ["account", "symbol", "market"] {
        let open = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&open);
        let clock = Arc::new(move || {
            let (sunday, monday) = (datetime!(2026-11-22 12:00 UTC), datetime!(2026-11-23 15:00 UTC));
            if opened.load(Ordering::SeqCst) { monday } else { sunday }
        });
        let world = World::at(MarketHours::Real, clock).await;
        let account = world.account("1000").await;
        let free = world.account_beside(account, "1000").await;
        let witness = place(&world.shards, free, "c-1", limit(Side::Buy, "1", "100")).await.unwrap().order;
        let order = place(&world.shards, account, "c-1", limit(Side::Buy, "1", "100")).await.unwrap().order;
        let symbol = Symbol::new("AAPL").unwrap();
        let what = (case == "symbol").then_some(&symbol);
        let now = OffsetDateTime::now_utc();
        if case == "account" {
            world.shards.halt(halt(account, Some("review"))).await.unwrap();
        } else {
            world.store.halt(what, &action("halt.set", case), now).await.unwrap();
        }
        open.store(true, Ordering::SeqCst);
        // What is not halted has been released meanwhile, by the worker of the same partitions.
        if case == "account" {
            let gone = || async { world.order(free, witness.id).await.status() == Status::PendingSend };
            assert!(eventually(Duration::from_secs(20), gone).await);
        }
        let partitions: Vec<_> = contracts::Partition::all().collect();
        assert_eq!(world.store.reserved(&partitions, None, 10).await.unwrap(), [], "{case}");
        assert_eq!(world.order(account, order.id).await.status(), Status::Reserved, "{case}");
        if case == "account" {
            world.shards.halt(halt(account, None)).await.unwrap();
        } else {
            world.store.lift(what, &action("halt.lifted", case), now).await.unwrap();
        }
        let released = || async { world.order(account, order.id).await.status() == Status::PendingSend };
        assert!(eventually(Duration::from_secs(20), released).await, "{case}");
        world.audit().await;
    }
}

#[tokio::test]
async fn an_account_id_that_is_used_again_is_the_same_account_only_in_the_same_currency() {
    let world = World::new().await;
    let account = world.account("1").await;
    let request = |currency| AccountRequest { id: account, currency, actor: operator() };
    let now = OffsetDateTime::now_utc();
    let same = world.store.make_account(&request(Currency::USD), now).await.unwrap();
    assert!(matches!(same, AccountMade::Known(_)), "{same:?}");
    let krw = Currency::new("KRW").unwrap();
    let other = world.store.make_account(&request(krw), now).await.unwrap();
    assert_eq!(other, AccountMade::OtherCurrency(Currency::USD));
    assert_eq!(kinds_done(&world).await, ["account.made", "deposit"]);
}

#[tokio::test]
async fn accounts_are_listed_page_by_page_without_a_gap() {
    let world = World::new().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(world.account("1").await);
    }
    made.sort();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = world.store.accounts(after, 2).await.unwrap();
        after = page.last().map(|account| account.id);
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|account| account.id));
    }
    assert_eq!(seen, made);
}

fn key(account_id: AccountId, name: &str) -> ApiKey {
    ApiKey { key_id: name.to_owned(), account_id, secret_sha256: [7; 32], ends: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rotations_of_one_key_at_its_end_one_wins_and_an_end_never_moves_back() {
    let world = World::new().await;
    let account = world.account("1").await;
    let now = (system_clock())();
    let store = &world.store;
    store.issue_key(&key(account, "K0"), &action("key.issued", "K0"), now).await.unwrap();
    let rotation = |old: &str, new: &str, seconds| KeyRotation {
        old: old.to_owned(),
        overlap: time::Duration::seconds(seconds),
        new: key(account, new),
    };
    let done = action("key.rotated", "K");
    let soon = store.rotate_key(&rotation("K0", "K1", 60), &done, now).await.unwrap().unwrap();
    assert_eq!(store.rotate_key(&rotation("K0", "K2", 3600), &done, now).await.unwrap(), Some(soon));
    assert!(store.api_key("K0").await.unwrap().unwrap().ends);
    let (a, b) = (rotation("K1", "K3", 0), rotation("K1", "K4", 0));
    let (a, b) = tokio::join!(store.rotate_key(&a, &done, now), store.rotate_key(&b, &done, now));
    assert_eq!([a.unwrap(), b.unwrap()].into_iter().flatten().count(), 1);
    let other = world.account("1").await;
    assert!(!store.revoke_key(other, "K2", &done, now).await.unwrap(), "another account's key");
    assert!(store.revoke_key(account, "K2", &done, now).await.unwrap());
    assert!(store.revoke_key(account, "K2", &done, now).await.unwrap(), "a repeat is no failure");
    assert!(store.api_key("K2").await.unwrap().is_none());
    assert_eq!(store.rotate_key(&rotation("K2", "K5", 60), &done, now).await.unwrap(), None, "it has ended");
    assert_eq!(store.keys(account, None, 100).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_rotated_key_ends_by_the_clock_of_the_database_whatever_the_copies_clocks_say() {
    let world = World::new().await;
    let account = world.account("1").await;
    let (store, now, done) = (&world.store, (system_clock())(), action("key.rotated", "K"));
    for (name, clock) in [("F", now + time::Duration::DAY), ("S", now - time::Duration::DAY)] {
        let [old, kept, last] = ["0", "1", "2"].map(|n| format!("{name}{n}"));
        store.issue_key(&key(account, &old), &done, clock).await.unwrap();
        let rotation = |from: &str, to: &str, seconds| KeyRotation {
            old: from.to_owned(),
            overlap: time::Duration::seconds(seconds),
            new: key(account, to),
        };
        let ends_at = store.rotate_key(&rotation(&old, &kept, 3600), &done, clock).await.unwrap().unwrap();
        let left = ends_at - now;
        assert!(left > time::Duration::minutes(59) && left < time::Duration::minutes(70), "{left}");
        assert!(store.rotate_key(&rotation(&kept, &last, 0), &done, clock).await.unwrap().is_some());
        assert!(store.api_key(&old).await.unwrap().is_some() && store.api_key(&kept).await.unwrap().is_none());
        let valid = store.valid_keys(&[old.clone(), kept, last.clone()]).await.unwrap();
        assert_eq!(valid, [old, last].into());
    }
    let unmarked = "select count(*) from api_keys where key_id in ('F1', 'S1') and revoked_at is null";
    assert_eq!(world.count(unmarked).await, 0, "a key that ends at once is revoked");
}

/// The role was given its rights to all tables before there was one for the mark of key changes.
#[tokio::test]
async fn a_role_without_rights_to_the_mark_still_changes_keys_and_sees_changes() {
    let world = World::new().await;
    let account = world.account("1").await;
    for sql in [
        "do $$ begin create role oor_test_run; exception when duplicate_object or unique_violation then null; end $$",
        "grant usage on schema public to oor_test_run",
        "grant select, insert, update, delete on all tables in schema public to oor_test_run",
        "grant usage on all sequences in schema public to oor_test_run",
        "revoke all on api_key_changes from oor_test_run",
    ] {
        sqlx::query(sql).execute(&world.database.pool).await.unwrap();
    }
    let as_role = sqlx::postgres::PgPoolOptions::new().after_connect(|conn, _| {
        Box::pin(async move { sqlx::query("set role oor_test_run").execute(conn).await.map(drop) })
    });
    let pool = as_role.connect(&world.database.url).await.unwrap();
    assert!(sqlx::query("select last from api_key_changes").execute(&pool).await.is_err(), "it has the right");
    let store = PgStore::new(pool, None, Arc::new(SystemIds));
    let (now, done) = ((system_clock())(), action("key", "K"));
    store.issue_key(&key(account, "K0"), &done, now).await.unwrap();
    let before = store.last_key_change().await.unwrap();
    assert!(store.revoke_key(account, "K0", &done, now).await.unwrap());
    assert_ne!(store.last_key_change().await.unwrap(), before);
}

/// Copies remember keys for as long as the mark of the last change is the same.
#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_key_marks_itself_when_it_is_committed_and_not_before() {
    let world = World::new().await;
    let account = world.account("1").await;
    let now = (system_clock())();
    let store = &world.store;
    let done = action("key", "K");
    let start = store.last_key_change().await.unwrap();
    store.issue_key(&key(account, "K0"), &done, now).await.unwrap();
    assert_eq!(store.last_key_change().await.unwrap(), start, "nobody remembers a new key");
    let mut marks = vec![start];
    let overlap = time::Duration::seconds(60);
    let rotation = KeyRotation { old: "K0".to_owned(), overlap, new: key(account, "K1") };
    assert!(store.rotate_key(&rotation, &done, now).await.unwrap().is_some());
    marks.push(store.last_key_change().await.unwrap());
    assert!(store.revoke_key(account, "K1", &done, now).await.unwrap());
    marks.push(store.last_key_change().await.unwrap());
    let mut by_hand = world.database.pool.begin().await.unwrap();
    sqlx::query("delete from api_keys").execute(&mut *by_hand).await.unwrap();
    assert_eq!(marks.last(), Some(&store.last_key_change().await.unwrap()), "it is not committed");
    by_hand.commit().await.unwrap();
    marks.push(store.last_key_change().await.unwrap());
    assert_eq!(marks.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[tokio::test]
async fn what_operators_did_cannot_be_changed() {
    let world = World::new().await;
    let _account = world.bought(world.account("1000").await, "c-1", "1", "10").await;
    for sql in ["update operator_actions set operator = 'lee'", "delete from operator_actions"] {
        assert!(sqlx::query(sql).execute(&world.database.pool).await.is_err(), "{sql}");
    }
}
