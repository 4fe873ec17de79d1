//! A Redis server of its own for a test, to be stopped, emptied and frozen.

use crate::config::{RedisConfig, Secret};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a started server to answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Ports that are tried, since another process may take one between choice and use.
const START_ATTEMPTS: usize = 5;

/// A private `redis-server` on loopback that keeps nothing on disk. Ended when this is dropped, and
/// by the kernel when the thread that started it ends.
#[derive(Debug)]
pub struct TestRedis {
    port: u16,
    child: Option<Child>,
    folder: PathBuf,
}

impl TestRedis {
    /// Starts a server on a free port and waits until it answers.
    ///
    /// # Panics
    /// When no server can be started.
    #[must_use]
    pub fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("oor-test-redis-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&folder).expect("create a folder for redis");
        let mut redis = Self { port: 0, child: None, folder };
        for _ in 0..START_ATTEMPTS {
            redis.port = free_port();
            if redis.try_start() {
                return redis;
            }
        }
        panic!("redis-server did not start in {START_ATTEMPTS} attempts");
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A configuration that leads to it, with short time limits.
    #[must_use]
    pub fn config(&self) -> RedisConfig {
        RedisConfig { url: Secret::new(self.url()), response_timeout_ms: 250, connect_timeout_ms: 250 }
    }

    /// Ends the server; everything in it is lost.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _already_gone = child.kill();
            let _already_reaped = child.wait();
        }
    }

    /// Starts an empty server on the same port, after [`TestRedis::stop`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.stop();
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.try_start() {
            assert!(Instant::now() < deadline, "redis-server did not start again on port {}", self.port);
        }
    }

    /// Freezes the server: it takes connections and never answers.
    ///
    /// # Panics
    /// When it is not running.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen server go on.
    ///
    /// # Panics
    /// When it is not running.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().map(Child::id).and_then(|id| i32::try_from(id).ok());
        let id = id.expect("redis-server is not running");
        kill(Pid::from_raw(id), signal).expect("signal redis-server");
    }

    /// Whether the server answers.
    fn try_start(&mut self) -> bool {
        let port = self.port.to_string();
        // Without a disk copy: what is stopped starts empty. setpriv replaces itself by redis, so
        // the child's id is redis's own.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "redis-server", "--port", &port, "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start redis-server through setpriv");
        self.child = Some(child);
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended {
                break;
            }
            if self.answers() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.stop();
        false
    }

    fn answers(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
            stream.set_read_timeout(Some(Duration::from_millis(500)))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0_u8; 7];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"+PONG\r\n")
        };
        ask().unwrap_or(false)
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.stop();
        let _best_effort = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a free port");
    listener.local_addr().expect("read the port").port()
}
