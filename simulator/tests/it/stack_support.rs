//! A stack with stand-ins for the services: it starts in a second, and needs no engine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use axum::Json;
use axum::routing::{get, post};
use serde_json::json;

/// Long enough for a loaded machine: only a failure waits this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A checkout of its own below a folder that every user can reach.
pub(crate) struct Checkout {
    pub(crate) root: PathBuf,
}

impl Checkout {
    pub(crate) fn new() -> Self {
        let root = PathBuf::from(format!("/var/tmp/stack-test-{}", uuid::Uuid::new_v4().simple()));
        let bin = root.join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let stand_in = format!(
            "#!/bin/sh\n[ \"$1\" = migrate ] && exit 0\nexec '{}' --exact stack_support::stand_in --ignored --nocapture\n",
            std::env::current_exe().unwrap().display()
        );
        for name in ["broker-sim", "order-server", "broker-gateway", "fill-receiver"] {
            let path = bin.join(name);
            fs::write(&path, &stand_in).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { root }
    }

    /// The `stack` program, working on this checkout with private servers.
    pub(crate) fn stack(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
        command.arg("--checkout").arg(&self.root).stdin(Stdio::null());
        let given = ["REDIS_URL", "TEST_DATABASE_URL", "ORDER_CORE_DATABASE_URL", "BROKER_GATEWAY_DATABASE_URL"];
        for name in given.into_iter().chain(["FILL_RECEIVER_DATABASE_URL"]) {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.stack().args(arguments).output().unwrap()
    }

    /// `stack up` in the background, ready.
    pub(crate) fn up(&self) -> Up {
        let log = fs::File::create(self.root.join("up.log")).unwrap();
        let mut command = self.stack();
        command.arg("up").arg("--bin").arg(self.root.join("bin"));
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let up = Up { child: KillOnDrop(child), env: self.root.join(".run/stack.env"), log: self.root.join("up.log") };
        until("the stack is ready", || up.said().contains("The stack is ready"));
        up
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        // A database server that is shutting down may still write a file while its folder is being removed.
        for _ in 0..100 {
            if fs::remove_dir_all(&self.root).is_ok() || !self.root.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A process that is killed with the test.
pub(crate) struct KillOnDrop(pub(crate) Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A running `stack up`, killed with the test.
pub(crate) struct Up {
    child: KillOnDrop,
    env: PathBuf,
    log: PathBuf,
}

impl Up {
    /// A value of `stack.env` as a shell reads it.
    pub(crate) fn value(&self, name: &str) -> String {
        let output =
            Command::new("sh").arg("-c").arg(format!(". \"$0\"; printf %s \"${name}\"")).arg(&self.env).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    pub(crate) fn pids(&self) -> Vec<String> {
        let names = ["POSTGRES", "REDIS", "BROKER_SIM", "ORDER_SERVER", "BROKER_GATEWAY", "FILL_RECEIVER"];
        names.map(|name| self.value(&format!("PID_{name}"))).to_vec()
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> String {
        self.child.0.id().to_string()
    }

    pub(crate) fn signal(&self, signal: &str) {
        send(&self.pid(), signal);
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.0.wait().unwrap()
    }
}

pub(crate) fn send(pid: &str, signal: &str) {
    assert!(Command::new("kill").args(["-s", signal, pid]).status().unwrap().success(), "kill {pid}");
}

/// Whether a process exists, be it only as a zombie.
pub(crate) fn exists(pid: &str) -> bool {
    !pid.is_empty() && Path::new("/proc").join(pid).exists()
}

/// Whether a process runs. One that its dead parent left behind may stay a zombie where nobody adopts it.
pub(crate) fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "not within {} s: {what}", LIMIT.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every service in one: answers what the stack asks of the order server, the others' readiness and the broker's
/// health, at the address in its environment. Started as a process of its own by a `Checkout`'s scripts.
#[tokio::test]
#[ignore = "is a program that the tests of the stack start, not a test"]
async fn stand_in() {
    let variables = [
        "ORDER_SERVER__HTTP__OPS_ADDR",
        "BROKER_GATEWAY__HTTP__OPS_ADDR",
        "FILL_RECEIVER__HTTP__OPS_ADDR",
        "BROKER_SIM__ADDR",
    ];
    // Run by hand (`--ignored`) there is no address, and nothing to do.
    let Some(address) = variables.into_iter().find_map(|name| std::env::var(name).ok()) else { return };
    let app = axum::Router::new()
        .route("/ops/v1/ready", get(async || "ready"))
        .route("/sim/v1/health", get(async || "healthy"))
        .route("/ops/v1/accounts", post(async || Json(json!({"account_id": "a", "account_number": "n"}))))
        .route("/ops/v1/accounts/{id}/deposits", post(async || Json(json!({}))))
        .route("/ops/v1/accounts/{id}/keys", post(async || Json(json!({"key_id": "k'1", "secret_key": "s"}))));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    axum::serve(listener, app).await.unwrap();
}
