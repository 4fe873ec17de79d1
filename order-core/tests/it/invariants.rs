//! Planted violations are seen by the looks at some accounts, and only there where they are.

use crate::world::{Flow, World, in_doubt, limit, place};
use contracts::Side;
use order_core::application::audit::CHECKS;
use platform::invariants::{Inspector, Invariants, Turn};
use uuid::Uuid;

async fn seen(world: &World, turn: Turn, len_max: u32) -> Vec<(&'static str, Option<Uuid>)> {
    let round = world.store.inspect(turn, len_max).await.unwrap();
    round.findings.iter().map(|finding| (finding.check.name, finding.subject)).collect()
}

async fn plant(world: &World, sql: &'static str) {
    let mut tx = world.database.pool.begin().await.unwrap();
    sqlx::query("set local session_replication_role = replica").execute(&mut *tx).await.unwrap();
    assert!(sqlx::query(sql).execute(&mut *tx).await.unwrap().rows_affected() > 0);
    tx.commit().await.unwrap();
}

/// Two accounts with trades; the second one's orders are the newest.
async fn world() -> (World, Uuid, Uuid) {
    let world = World::new().await;
    let (first, second) = (world.account("10000").await, world.account("10000").await);
    for (account, name) in [(first, "a"), (second, "b")] {
        world.bought(account, name, "10", "100").await;
        let order = place(&world.shards, account, &format!("{name}-open"), limit(Side::Buy, "1", "100")).await;
        let order = order.unwrap().order;
        world.gateway(account, &[in_doubt(order.id)]).await;
    }
    assert_eq!(seen(&world, Turn::Recent, 50).await, []);
    assert_eq!(seen(&world, Turn::After(Uuid::nil()), 50).await, []);
    (world, first.as_uuid(), second.as_uuid())
}

#[tokio::test]
async fn each_planted_violation_is_found_by_its_check() {
    for (name, sql) in [
        ("balance_is_journal_sum", "update accounts set cash_available = cash_available + 0.01"),
        (
            "journal_replay_never_overspends",
            "update journal_lines set amount = amount * 100 where cause = 'order.accepted'",
        ),
        ("held_is_what_orders_hold", "update orders set hold_cash = hold_cash + 1 where not closed"),
        ("order_executed_is_ledger_sum", "update executions set quantity = quantity + 1"),
        (
            "doubt_ends_by_evidence",
            "insert into order_transitions (order_id, from_status, to_status, cause, cause_id, at)
            select id, 'in_doubt', 'canceled', 'timer', id, now() from orders",
        ),
        ("updates_are_gapless", "delete from order_transitions where update_seq = 2"),
        ("log_is_gapless", "delete from event_log where seq = 1"),
        (
            "nothing_is_parked",
            "insert into deferred (producer, partition, seq, reason, envelope, deferred_at)
            values ('fill-receiver', 0, 1, 'poison', '{}', now())",
        ),
    ] {
        let (world, _, _) = world().await;
        plant(&world, sql).await;
        for turn in [Turn::Recent, Turn::After(Uuid::nil())] {
            let seen = seen(&world, turn, 50).await;
            assert!(seen.iter().any(|(check, _)| *check == name), "{name} by {turn:?}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn a_violation_elsewhere_is_found_by_the_walk_and_stays_shown_until_it_is_mended() {
    let (world, first, second) = world().await;
    assert!(first < second);
    plant(
        &world,
        "update accounts set cash_available = cash_available + 1 where id = (select min(id::text)::uuid from accounts)",
    )
    .await;
    let invariants = Invariants::new(CHECKS);
    let look = async |turn, len_max| invariants.take(world.store.inspect(turn, len_max).await.unwrap());
    look(Turn::Recent, 1).await;
    assert_eq!(invariants.broken(), Vec::<String>::new(), "the newest order is the other account's");
    look(Turn::After(Uuid::nil()), 1).await;
    let broken = ["invariant I4: balance_is_journal_sum (1)"];
    assert_eq!(invariants.broken(), broken);
    look(Turn::Recent, 1).await;
    look(Turn::After(first), 1).await;
    assert_eq!(invariants.broken(), broken, "looking at others takes nothing back");
    plant(
        &world,
        "update accounts set cash_available = cash_available - 1 where id = (select min(id::text)::uuid from accounts)",
    )
    .await;
    look(Turn::After(Uuid::nil()), 1).await;
    assert_eq!(invariants.broken(), Vec::<String>::new());
    assert!(world.store.inspect(Turn::After(second), 1).await.unwrap().examined.is_empty(), "the end of the walk");
}
