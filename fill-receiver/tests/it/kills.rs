//! The real process, killed and ended.

use crate::broker::{Event, position};
use crate::harness::{World, eventually};
use std::process::{Child, Command, Stdio};

struct Process(Child);

impl Process {
    fn start(world: &World) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_fill-receiver"))
            .env("FILL_RECEIVER_DATABASE_URL", &world.db.url)
            .env("REDIS_URL", "redis://127.0.0.1:1")
            .env("FILL_RECEIVER__HTTP__OPS_ADDR", "127.0.0.1:0")
            .env("FILL_RECEIVER__BROKER__BASE_URL", world.broker.base_url())
            .env("FILL_RECEIVER__BROKER__KEY_ID", "key")
            .env("FILL_RECEIVER__BROKER__SECRET_KEY", "secret")
            .env("FILL_RECEIVER__LEASE__DURATION_MS", "400")
            .env("FILL_RECEIVER__LEASE__RENEWAL_MS", "100")
            .env("FILL_RECEIVER__DATABASE__LOCK_TIMEOUT_MS", "9000")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, name: &str) {
        let told = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test]
async fn a_kill_before_the_commit_loses_nothing_and_a_restart_logs_it_once() {
    let world = World::new().await;
    let mut process = Process::start(&world);
    eventually("connecting", || async { world.broker.open() == 1 }).await;
    // The log's heads are taken, so the transaction stands right before its commit.
    let mut heads = world.pool().begin().await.unwrap();
    sqlx::query("select seq from event_heads for update").fetch_all(&mut *heads).await.unwrap();
    world.broker.publish_all(&[Event::fill(1, "e-1", position(500, 1)), Event::fill(2, "e-2", position(400, 2))]);
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the receiver waits for the heads", || async { world.count(waiting).await == 1 }).await;
    process.kill();
    heads.rollback().await.unwrap();
    eventually("the dead session is gone", || async { world.count(waiting).await == 0 }).await;
    assert_eq!(world.log().await.len(), 0);
    assert_eq!(world.count("select count(*) from broker_orders").await, 0);
    let _process = Process::start(&world);
    world.logged(2).await;
}

#[tokio::test]
async fn kills_at_any_moment_lose_and_double_nothing() {
    let world = World::new().await;
    let total = 400_u128;
    let broker = world.broker.clone();
    let feeding = tokio::spawn(async move {
        for n in 0..total {
            broker.publish(&Event::fill(n % 9, &format!("e-{n}"), position(0, n)));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    let mut kills = 0;
    while !feeding.is_finished() {
        let mut process = Process::start(&world);
        let before = world.log().await.len();
        eventually("progress", || async { feeding.is_finished() || world.log().await.len() > before }).await;
        process.kill();
        kills += 1;
    }
    let _process = Process::start(&world);
    world.logged(usize::try_from(total).unwrap()).await;
    assert!(kills > 1);
}

#[tokio::test]
async fn sigterm_ends_the_process_in_good_order() {
    let world = World::new().await;
    let mut process = Process::start(&world);
    eventually("connecting", || async { world.broker.open() == 1 }).await;
    world.broker.publish(&Event::fill(1, "e-1", position(500, 1)));
    world.logged(1).await;
    process.signal("-TERM");
    eventually("the end", || {
        let ended = process.0.try_wait().unwrap();
        async move { ended.is_some_and(|status| status.success()) }
    })
    .await;
    assert_eq!(world.count("select count(*) from stream_leases").await, 0);
}

#[tokio::test]
async fn a_stopped_process_is_taken_over_from_and_does_no_harm_when_it_goes_on() {
    let world = World::new().await;
    let stopped = Process::start(&world);
    eventually("connecting", || async { world.broker.open() == 1 }).await;
    world.broker.publish(&Event::fill(1, "e-1", position(500, 1)));
    world.logged(1).await;
    stopped.signal("-STOP");
    world.broker.publish(&Event::fill(1, "e-2", position(400, 2)));
    let _other = Process::start(&world);
    world.broker.publish(&Event::fill(1, "e-3", position(300, 3)));
    world.logged(3).await;
    let cursor = world.cursor().await;
    stopped.signal("-CONT");
    // It finds what came meanwhile in its socket, loses the cursor or the lease, and leaves.
    eventually("the first process to leave the stream", || async { world.broker.open() == 1 }).await;
    assert!(world.cursor().await >= cursor);
    world.broker.publish(&Event::fill(1, "e-4", position(200, 4)));
    world.logged(4).await;
}
