//! How the real program ends, and what it says meanwhile.

use super::process::{PATIENCE, Process, program};
use super::{ApiWorld, Customer, buy};
use nix::sys::signal::Signal;
use platform::testing::eventually;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// What a client saw of its orders.
#[derive(Default)]
struct Seen {
    accepted: BTreeSet<String>,
    told_to_close: u32,
    wrong: Vec<String>,
}

/// Posts one order after the other until nobody answers any more.
async fn post_until_gone(customer: Customer, name: usize, started: Arc<AtomicU32>) -> Seen {
    let mut seen = Seen::default();
    for n in 0..100_000 {
        let id = format!("w{name}-{n}");
        let sent = customer.request(reqwest::Method::POST, "/v2/orders").json(&buy(&id, "1", "1")).send().await;
        let Ok(answer) = sent else { return seen };
        started.fetch_add(1, Ordering::SeqCst);
        seen.told_to_close += u32::from(answer.headers().get("connection").is_some_and(|value| value == "close"));
        if answer.status() == 200 {
            seen.accepted.insert(id);
        } else {
            seen.wrong.push(format!("{id}: {}", answer.status()));
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_under_load_it_goes_red_first_answers_what_it_took_and_exits_with_0() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000000").await;
    let mut process = Process::start(&world, &[("ORDER_SERVER__SHUTDOWN__DRAIN_DELAY_MS", "1500")]).await;
    let (here, answered) = (process.customer(&customer), Arc::new(AtomicU32::new(0)));
    let mut clients = JoinSet::new();
    for n in 0..8 {
        clients.spawn(post_until_gone(here.clone(), n, Arc::clone(&answered)));
    }
    assert!(eventually(PATIENCE, || async { answered.load(Ordering::SeqCst) > 50 }).await);
    process.signal(Signal::SIGTERM);
    let red = eventually(PATIENCE, || async { process.ready(&world).await == Some((503, "draining".to_owned())) });
    assert!(red.await);
    let before = answered.load(Ordering::SeqCst);
    let went_on = eventually(PATIENCE, || async { answered.load(Ordering::SeqCst) > before + 20 });
    assert!(went_on.await, "it takes requests while load balancers turn away");
    let status = process.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    let seen = clients.join_all().await;
    let wrong: Vec<&String> = seen.iter().flat_map(|seen| &seen.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(seen.iter().all(|seen| seen.told_to_close > 0), "every client was told to come back elsewhere");
    let accepted: BTreeSet<String> = seen.into_iter().flat_map(|seen| seen.accepted).collect();
    let stored: Vec<String> =
        sqlx::query_scalar("select client_order_id from orders").fetch_all(&world.database.pool).await.unwrap();
    assert_eq!(stored.into_iter().collect::<BTreeSet<_>>(), accepted, "what was answered, and nothing else");
    let locks: i64 = {
        let client = redis::Client::open(world.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let key = platform::keys::account_lock(customer.account_id);
        redis::cmd("EXISTS").arg(key).query_async(&mut connection).await.unwrap()
    };
    assert_eq!(locks, 0, "no lock is left behind");
    let published: i64 = world.count("select coalesce(sum(seq), 0)::bigint from event_heads").await;
    assert_eq!(published, world.count("select count(*) from event_log").await);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_a_second_time_it_ends_at_once_and_its_code_names_the_signal() {
    let world = ApiWorld::new().await;
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut process = Process::start(&world, &[("ORDER_SERVER__SHUTDOWN__DRAIN_DELAY_MS", "600000")]).await;
        process.signal(Signal::SIGTERM);
        let red = eventually(PATIENCE, || async { process.ready(&world).await == Some((503, "draining".to_owned())) });
        assert!(red.await);
        process.signal(signal);
        assert_eq!(process.ended().await.code(), Some(code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_work_under_way_at_its_deadline_it_ends_all_the_same_and_its_code_says_so() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let times = [
        ("ORDER_SERVER__SHUTDOWN__DRAIN_DELAY_MS", "0"),
        ("ORDER_SERVER__HTTP__DRAIN_TIMEOUT_MS", "100"),
        ("ORDER_SERVER__SHUTDOWN__DEADLINE_MS", "1200"),
        ("ORDER_SERVER__WORKER__COMMAND_DEADLINE_MS", "100"),
        ("ORDER_SERVER__BUS__DRAIN_MS", "100"),
        ("ORDER_SERVER__DATABASE__ACQUIRE_TIMEOUT_MS", "500"),
        ("ORDER_SERVER__DATABASE__STATEMENT_TIMEOUT_MS", "500"),
        ("ORDER_SERVER__DATABASE__LOCK_TIMEOUT_MS", "400"),
    ];
    let mut process = Process::start(&world, &times).await;
    // An order that cannot be decided: its worker waits for the holdings.
    let mut tx = world.database.pool.begin().await.unwrap();
    sqlx::query("lock table positions in access exclusive mode").execute(&mut *tx).await.unwrap();
    let here = process.customer(&customer);
    let order = tokio::spawn(async move {
        here.request(reqwest::Method::POST, "/v2/orders").json(&buy("stuck", "1", "1")).send().await.map(|a| a.status())
    });
    assert!(eventually(PATIENCE, || async { waits_for_positions(&world).await }).await);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(3));
    tx.rollback().await.unwrap();
    let answer = order.await.unwrap();
    assert!(!matches!(answer, Ok(status) if status == 200), "{answer:?}");
    assert_eq!(world.count("select count(*) from orders").await, 0);
    world.audit().await;
}

pub(super) async fn waits_for_positions(world: &ApiWorld) -> bool {
    world
        .count(
            "select count(*) from pg_locks where relation = 'positions'::regclass and not granted
             and database = (select oid from pg_database where datname = current_database())",
        )
        .await
        > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_schema_that_is_not_its_own_it_does_not_start_and_says_what_to_do() {
    let world = ApiWorld::new().await;
    sqlx::query("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
        .execute(&world.database.pool)
        .await
        .unwrap();
    let nowhere = "127.0.0.1:0".parse().unwrap();
    let mut command = program(&world.database.url, &world.redis.url(), nowhere, nowhere);
    let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is not applied") && said.contains("run the `migrate` command"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_redis_leaves_it_ready() {
    let mut world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let process = Process::start(&world, &[]).await;
    world.redis.stop();
    let stopped = AtomicBool::new(false);
    let degraded = eventually(PATIENCE, || async {
        let posted = process.customer(&customer).post(&buy("c", "1", "1")).await;
        stopped.store(posted.status == 200, Ordering::SeqCst);
        let url = format!("http://{}/ops/v1/health", process.ops_addr);
        let health = super::send(world.client.get(url)).await;
        health.status == 200 && health.body["locks"]["breaker"] == "open"
    });
    assert!(degraded.await);
    assert!(stopped.load(Ordering::SeqCst), "orders are taken");
    assert_eq!(process.ready(&world).await, Some((200, String::new())));
    tokio::time::timeout(Duration::from_secs(30), world.audit()).await.unwrap();
}
