//! A real process that the system stops while it holds an account's lock.

use super::process::{PATIENCE, Process};
use super::stop::waits_for_positions;
use super::{ApiWorld, buy};
use nix::sys::signal::Signal;
use platform::testing::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_stopped_beyond_its_lease_spends_nothing_that_another_spent_meanwhile() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let times = [
        ("ORDER_SERVER__DATABASE__STATEMENT_TIMEOUT_MS", "1500"),
        ("ORDER_SERVER__DATABASE__LOCK_TIMEOUT_MS", "1500"),
        ("ORDER_SERVER__LOCK__LEASE_MS", "3300"),
    ];
    let process = Process::start(&world, &times).await;
    // It reads the account, and then has to wait for the holdings: there it is stopped.
    let mut tx = world.database.pool.begin().await.unwrap();
    sqlx::query("lock table positions in access exclusive mode").execute(&mut *tx).await.unwrap();
    let there = process.customer(&customer);
    let paused = tokio::spawn(async move { there.post(&buy("paused", "10", "100")).await });
    assert!(eventually(PATIENCE, || async { waits_for_positions(&world).await }).await);
    process.signal(Signal::SIGSTOP);
    tx.rollback().await.unwrap();
    // Another copy spends all the cash, as soon as it no longer waits for the lock.
    assert_eq!(customer.post(&buy("other", "10", "100")).await.status, 200);
    let client = redis::Client::open(world.redis.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = platform::keys::account_lock(customer.account_id);
    let over = eventually(PATIENCE, || {
        let (mut connection, key) = (connection.clone(), key.clone());
        async move { !redis::cmd("EXISTS").arg(key).query_async::<bool>(&mut connection).await.unwrap() }
    });
    assert!(over.await, "the lease must be over");
    process.signal(Signal::SIGCONT);
    let paused = paused.await.unwrap();
    world.audit().await;
    assert_eq!(paused.failed_with(), (403, 40_310_000), "the cash was spent");
    assert_eq!(world.count("select count(*) from orders where not closed").await, 1);
}
