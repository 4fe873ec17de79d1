//! The real program in a process of its own, to be signalled.

use super::{ApiWorld, Copy, Customer, OPS_TOKEN};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use platform::testing::eventually;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// An order server beside the others of a test. Killed when this is dropped.
pub(super) struct Process {
    pub(super) api_addr: SocketAddr,
    pub(super) ops_addr: SocketAddr,
    child: Child,
}

fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The program on this database, with its output kept.
pub(super) fn program(database_url: &str, redis_url: &str, api: SocketAddr, ops: SocketAddr) -> Command {
    let mut command = Command::new("setpriv");
    // Ended by the kernel with the thread that started it.
    command
        .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_order-server"), "run"])
        .env("ORDER_CORE_DATABASE_URL", database_url)
        .env("REDIS_URL", redis_url)
        .env("OPS_TOKEN", OPS_TOKEN)
        .env("PEER_TOKEN", "peer-token")
        .env("ORDER_SERVER__HTTP__API_ADDR", api.to_string())
        .env("ORDER_SERVER__HTTP__OPS_ADDR", ops.to_string())
        .env("ORDER_SERVER__MARKET__HOURS", "always")
        .env("ORDER_SERVER__PEERS__GATEWAY_URL", super::NOBODY)
        .env("ORDER_SERVER__PEERS__RECEIVER_URL", super::NOBODY)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

impl Process {
    /// Starts one with these settings on the database and Redis of a test, and waits until it is ready.
    pub(super) async fn start(world: &ApiWorld, settings: &[(&str, &str)]) -> Self {
        sqlx::query(
            "insert into assets (symbol, id, name, exchange, tradable, fractionable, updated_at)
             values ('AAPL', gen_random_uuid(), 'Apple', 'NASDAQ', true, true, now()) on conflict do nothing",
        )
        .execute(&world.database.pool)
        .await
        .unwrap();
        let (api_addr, ops_addr) = (free_addr(), free_addr());
        let mut command = program(&world.database.url, &world.redis.url(), api_addr, ops_addr);
        let child = command.envs(settings.iter().copied()).spawn().unwrap();
        let process = Self { api_addr, ops_addr, child };
        let ready = eventually(PATIENCE, || async { process.ready(world).await == Some((200, String::new())) });
        assert!(ready.await, "it never was ready: {:?}", process.ready(world).await);
        process
    }

    /// Status and reason of readiness; none when nobody answers.
    pub(super) async fn ready(&self, world: &ApiWorld) -> Option<(u16, String)> {
        let asked = world.client.get(format!("http://{}/ops/v1/ready", self.ops_addr)).send().await.ok()?;
        let status = asked.status().as_u16();
        let body: serde_json::Value = asked.json().await.ok()?;
        Some((status, body["reason"].as_str().unwrap_or_default().to_owned()))
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> ExitStatus {
        for _ in 0..3_000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the process did not end")
    }

    /// A customer of the test at this process.
    pub(super) fn customer(&self, customer: &Customer) -> Customer {
        customer.at(&Copy { api_addr: self.api_addr, ops_addr: self.ops_addr, end: Default::default(), service: None })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}
