//! The broker's own death.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use contracts::alpaca::{ApiError, OrderEntity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::broker_support::{ACCOUNT, Broker, KEY_ID, SECRET, client, json_of, market, resting, settings};

struct StateFile(PathBuf);

impl StateFile {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("broker-sim-it-{}", uuid::Uuid::new_v4())))
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// The broker as a process; killed when dropped.
struct Process {
    child: Child,
    base: String,
}

impl Process {
    fn spawn(state_file: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_broker-sim"))
            .env("BROKER_SIM__ADDR", "127.0.0.1:0")
            .env("BROKER_SIM__KEY_ID", KEY_ID)
            .env("BROKER_SIM__SECRET_KEY", SECRET)
            .env("BROKER_SIM__ACCOUNT_ID", ACCOUNT)
            .env("BROKER_SIM__SEED", "7")
            .env("BROKER_SIM__STATE_FILE", state_file)
            .env("BROKER_SIM__MARKET_HOURS", "always")
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("listens")).unwrap();
        std::thread::spawn(move || lines.count());
        let line: Value = serde_json::from_str(&line).unwrap();
        let base = format!("http://{}", line["addr"].as_str().unwrap());
        Self { child, base }
    }

    fn signal(&mut self, signal: Signal) -> std::process::ExitStatus {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
        self.child.wait().unwrap()
    }

    async fn submit(&self, order: &Value) -> reqwest::Result<reqwest::Response> {
        let url = format!("{}{}", self.base, Broker::orders_path());
        client().post(url).basic_auth(KEY_ID, Some(SECRET)).json(order).send().await
    }

    async fn oracle(&self) -> Value {
        json_of(client().get(format!("{}/sim/v1/oracle/orders", self.base)).send().await.unwrap()).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn stopped_broker_knows_its_orders_events_and_keys_again() {
    let file = StateFile::new();
    let broker = Broker::start_with(settings(1, Some(file.0.clone()))).await;
    broker.submit(&market("filled", "3")).await.unwrap();
    let open: OrderEntity = json_of(broker.submit(&resting("open")).await.unwrap()).await;
    let events = broker.stream("since=2020-01-01").await.until_filled("filled").await;
    let oracle = broker.oracle("orders", "").await;
    broker.shutdown().await;

    let broker = Broker::start_with(settings(1, Some(file.0.clone()))).await;
    assert_eq!(broker.oracle("orders", "").await, oracle);
    assert_eq!(broker.stream("since=2020-01-01").await.until_filled("filled").await, events);
    let duplicate: ApiError = json_of(broker.submit(&market("filled", "3")).await.unwrap()).await;
    assert!(duplicate.is_duplicate_client_order_id());
    assert_eq!(broker.cancel(&open).await.unwrap().status(), 204);
    broker.shutdown().await;
}

#[tokio::test]
async fn whatever_was_answered_survives_sigkill() {
    let file = StateFile::new();
    let mut answered = 0;
    for life in 0..3 {
        let mut process = Process::spawn(&file.0);
        for n in 0..40 {
            let answer = process.submit(&market(&format!("{life}-{n}"), "2")).await.unwrap();
            assert_eq!(answer.status(), 200);
            answered += 1;
        }
        process.signal(Signal::SIGKILL);
    }
    let process = Process::spawn(&file.0);
    let oracle = process.oracle().await;
    assert_eq!(oracle["orders"].as_array().unwrap().len(), answered);
    let again: ApiError = json_of(process.submit(&market("0-0", "2")).await.unwrap()).await;
    assert!(again.is_duplicate_client_order_id());
}

#[tokio::test]
async fn sigterm_ends_the_process_in_order_even_with_open_streams() {
    let file = StateFile::new();
    let mut process = Process::spawn(&file.0);
    let url = format!("{}/v2/events/trades", process.base);
    let mut stream = client().get(url).basic_auth(KEY_ID, Some(SECRET)).send().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    let config = json!({"submit": {"never_answer": "1"}});
    client().put(format!("{}/sim/v1/config", process.base)).json(&config).send().await.unwrap();
    assert!(process.signal(Signal::SIGTERM).success());
}
