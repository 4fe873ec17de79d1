//! A running stack.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;

use super::child::{describe, tail};
use super::env_file::EnvFile;
use super::error::StackError;
use super::layout::{Layout, RunLock, private_folder};
use super::name::ProcessName;
use super::operator::{ApiKey, NewAccount, Operator, describe as describe_error};
use super::postgres::ensure_database;
use super::servers::{DATABASES, DatabaseUrls, GivenServers, Servers, wait_ready};
use super::services::{Addresses, MarketHours, Ports, Secrets, ServicePlan};
use super::supervisor::{Announcer, Snapshot, Supervisor};

const MIGRATE_LIMIT: Duration = Duration::from_secs(120);
const READY_LIMIT: Duration = Duration::from_secs(60);
const KILL_LIMIT: Duration = Duration::from_secs(15);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// The cash of the demo account in US dollars.
const DEMO_CASH: &str = "1000000";

/// How a stack is to be.
pub struct StackOptions {
    /// Its folders.
    pub layout: Layout,
    /// The folder of the service binaries.
    pub bin: PathBuf,
    /// That of the engine's own, where they are of another build.
    pub engine_bin: Option<PathBuf>,
    /// Whether the data of the run before is kept.
    pub keep: bool,
    /// When the market is open.
    pub market_hours: MarketHours,
    /// The seed of the simulated broker.
    pub seed: u64,
    /// How many copies of each engine process.
    pub copies: u8,
    /// Servers that are used instead of private ones.
    pub given: GivenServers,
    /// Further variables of single processes.
    pub extra: BTreeMap<ProcessName, Vec<(String, String)>>,
    /// Told the simulated broker's base URL before the services start.
    pub broker_url: Option<Arc<OnceLock<String>>>,
    /// Where to say what happens.
    pub announce: Announcer,
}

/// A running stack with the handles to act on its processes. Its children end when it is dropped or when this process
/// ends in any way; [`Stack::shutdown`] ends them in order.
pub struct Stack {
    supervisor: Supervisor,
    layout: Layout,
    servers: Servers,
    addresses: Addresses,
    copies: Vec<Addresses>,
    databases: DatabaseUrls,
    operator: Operator,
    http: reqwest::Client,
    demo: (NewAccount, ApiKey),
    secrets: Secrets,
    announce: Announcer,
    interventions: AtomicU64,
    _ports: Ports,
    _lock: RunLock,
}

/// A client for loopback that follows no redirect, retries nothing and uses no proxy.
///
/// # Errors
/// When the client cannot be built.
pub fn http_client() -> Result<reqwest::Client, StackError> {
    platform::tls::install_crypto_provider();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .build()
        .map_err(|error| StackError::Settings(describe_error(&error)))
}

impl Stack {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// When a stack runs from these folders already, or anything does not start; what had started is ended then.
    pub async fn start(options: StackOptions) -> Result<Self, StackError> {
        let lock = options.layout.lock()?;
        EnvFile::remove(&options.layout.env_file());
        let env_file: Arc<Mutex<Option<EnvFile>>> = Arc::default();
        let supervisor = Supervisor::start(options.announce.clone(), writer(&env_file, &options.announce))?;
        let started = Self::bring_up(&options, &supervisor, &env_file).await;
        let parts = match started {
            Ok(parts) => parts,
            Err(error) => {
                supervisor.shutdown().await;
                EnvFile::remove(&options.layout.env_file());
                return Err(error);
            }
        };
        Ok(Self {
            supervisor,
            layout: options.layout,
            servers: parts.servers,
            addresses: parts.addresses,
            copies: parts.copies,
            databases: parts.databases,
            operator: parts.operator,
            http: parts.http,
            demo: parts.demo,
            secrets: parts.secrets,
            announce: options.announce,
            interventions: AtomicU64::new(0),
            _ports: parts.ports,
            _lock: lock,
        })
    }

    async fn bring_up(
        options: &StackOptions,
        supervisor: &Supervisor,
        env_file: &Mutex<Option<EnvFile>>,
    ) -> Result<Parts, StackError> {
        let say = |text: &str| (options.announce)(text);
        let layout = &options.layout;
        let http = http_client()?;
        say("starting the servers");
        let (given, keep) = (&options.given, options.keep);
        let settings = options.extra.get(&ProcessName::Postgres).map_or(&[][..], Vec::as_slice);
        let redis = given.redis.as_deref();
        let servers = Servers::start(supervisor, layout, keep, given.databases.is_some(), redis, settings).await?;
        let databases = databases(options, &servers).await?;
        let ports = Ports::reserve(options.copies)?;
        let secrets = Secrets::generate(|name| std::env::var(name).ok());
        let plan = ServicePlan {
            layout,
            bin: &options.bin,
            engine_bin: options.engine_bin.as_ref().unwrap_or(&options.bin),
            ports: &ports,
            secrets: &secrets,
            databases: &databases,
            redis_url: &servers.redis_url,
            market_hours: options.market_hours,
            seed: options.seed,
            broker_state: broker_state(options, &servers)?,
            extra: &options.extra,
        };
        say("applying the migrations");
        for name in ProcessName::ENGINE {
            migrate(supervisor, layout, &plan, name).await?;
        }
        let copies = ports.addresses();
        let Some(addresses) = copies.first().cloned() else {
            return Err(StackError::Settings("a stack has at least one copy of each process".to_owned()));
        };
        if let Some(known) = &options.broker_url {
            let _again = known.set(addresses.sim.clone());
        }
        say("starting the services");
        let names = ProcessName::with_copies(options.copies);
        for name in names.iter().copied() {
            if let Some(spec) = plan.spec(name) {
                supervisor.spawn(name, spec).await?;
            }
        }
        for name in names {
            wait_for_service(supervisor, layout, &http, &copies, name).await?;
        }
        let operator = Operator::new(http.clone(), addresses.ops.clone(), secrets.ops_token.clone());
        let demo = operator.open_account(DEMO_CASH, "demo").await?;
        let values = env_values(&copies, &addresses, &databases, &servers, &secrets, &demo.1);
        let file = EnvFile::new(layout.env_file(), values);
        file.write(&supervisor.snapshot())?;
        *env_file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(Parts { servers, addresses, copies, databases, operator, http, demo, secrets, ports })
    }

    /// The base URLs of the services.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The base URLs of each copy's services; the first are those of [`Stack::addresses`].
    #[must_use]
    pub fn copies(&self) -> &[Addresses] {
        &self.copies
    }

    /// The URLs of the databases.
    #[must_use]
    pub fn databases(&self) -> &DatabaseUrls {
        &self.databases
    }

    /// The superuser's URL of the private PostgreSQL server; `None` where the databases were given.
    #[must_use]
    pub fn admin_url(&self) -> Option<String> {
        self.servers.admin_url()
    }

    /// The file system of its own that the private database's data is on, where it has one.
    #[must_use]
    pub fn database_disk(&self) -> Option<&std::path::Path> {
        self.servers.database_disk()
    }

    /// The address of Redis.
    #[must_use]
    pub fn redis_url(&self) -> &str {
        &self.servers.redis_url
    }

    /// A client of the order server's operator port.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// The client that the stack itself uses.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The demo account and its key.
    #[must_use]
    pub fn demo(&self) -> &(NewAccount, ApiKey) {
        &self.demo
    }

    /// The tokens of two persons, since some decisions take two.
    #[must_use]
    pub fn persons(&self) -> [&str; 2] {
        [&self.secrets.alice_token, &self.secrets.bob_token]
    }

    /// Every secret of the stack with what it is, to look for where none must be.
    #[must_use]
    pub fn secrets(&self) -> Vec<(String, String)> {
        let own = &self.secrets;
        let broker = format!("{}:{}", own.broker_key_id, own.broker_secret_key);
        let services = [
            ("the operators' token", own.ops_token.clone()),
            ("Alice's token", own.alice_token.clone()),
            ("Bob's token", own.bob_token.clone()),
            ("the peers' token", own.peer_token.clone()),
            ("the broker's secret", own.broker_secret_key.clone()),
            ("the broker's credentials as they are sent", STANDARD.encode(broker)),
            ("the secret of pushes", own.push_secret.clone()),
            ("the demo account's secret", self.demo.1.secret_key.clone()),
        ];
        let password =
            |url: &str| url.split_once("://")?.1.split_once('@')?.0.split_once(':').map(|(_, p)| p.to_owned());
        let databases = self.databases.variables().into_iter();
        let databases = databases.filter_map(|(name, url)| Some((format!("the password of {name}"), password(url)?)));
        services.map(|(name, secret)| (name.to_owned(), secret)).into_iter().chain(databases).collect()
    }

    /// The folders of this stack.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The state of the processes.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.supervisor.snapshot()
    }

    /// How often a process was killed, stopped or frozen from here.
    #[must_use]
    pub fn interventions(&self) -> u64 {
        self.interventions.load(Ordering::Relaxed)
    }

    fn intervened(&self) {
        let _before = self.interventions.fetch_add(1, Ordering::Relaxed);
    }

    /// Kills a process by SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill(&self, name: ProcessName) -> Result<(), StackError> {
        self.supervisor.end(name, Signal::SIGKILL, KILL_LIMIT).await?;
        self.intervened();
        Ok(())
    }

    /// Asks a process to end and waits until it is gone.
    ///
    /// # Errors
    /// When it is not running, or does not end.
    pub async fn stop(&self, name: ProcessName) -> Result<(), StackError> {
        let signal = if name == ProcessName::Postgres { Signal::SIGINT } else { Signal::SIGTERM };
        self.supervisor.end(name, signal, STOP_LIMIT).await?;
        self.intervened();
        Ok(())
    }

    /// Sends any signal to a process, like SIGSTOP.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn signal(&self, name: ProcessName, signal: Signal) -> Result<(), StackError> {
        self.supervisor.signal(name, signal).await?;
        if signal != Signal::SIGCONT {
            self.intervened();
        }
        Ok(())
    }

    /// Starts a dead process again on its old port, without waiting for it.
    ///
    /// # Errors
    /// When it is running, is not run by this stack, or cannot be started.
    pub async fn restart(&self, name: ProcessName) -> Result<u32, StackError> {
        self.restart_with(name, Vec::new()).await
    }

    /// The same with further variables for this once.
    ///
    /// # Errors
    /// As [`Stack::restart`].
    pub async fn restart_with(&self, name: ProcessName, once: Vec<(String, String)>) -> Result<u32, StackError> {
        let dead = self.supervisor.snapshot().get(&name).is_some_and(|state| state.pid.is_none());
        if dead {
            self.servers.before_restart(name).await?;
        }
        let pid = self.supervisor.restart(name, once).await?;
        (self.announce)(&format!("{name} started again (pid {pid})"));
        Ok(pid)
    }

    /// Waits until a process has ended by itself; whether it did within `limit`.
    ///
    /// # Errors
    /// When the stack has ended.
    pub async fn gone(&self, name: ProcessName, pid: u32, limit: Duration) -> Result<bool, StackError> {
        self.supervisor.gone(name, pid, limit).await
    }

    /// Waits until a process answers.
    ///
    /// # Errors
    /// When it does not within a limit, or ends.
    pub async fn wait_ready(&self, name: ProcessName) -> Result<(), StackError> {
        match name {
            ProcessName::Postgres => self.servers.wait_for_postgres(&self.supervisor, &self.layout).await,
            ProcessName::Redis => self.servers.wait_for_redis(&self.supervisor, &self.layout).await,
            _ => wait_for_service(&self.supervisor, &self.layout, &self.http, &self.copies, name).await,
        }
    }

    /// Ends all processes in their order and removes `stack.env`.
    pub async fn shutdown(&self) {
        self.supervisor.shutdown().await;
        EnvFile::remove(&self.layout.env_file());
    }
}

struct Parts {
    servers: Servers,
    addresses: Addresses,
    copies: Vec<Addresses>,
    databases: DatabaseUrls,
    operator: Operator,
    http: reqwest::Client,
    demo: (NewAccount, ApiKey),
    secrets: Secrets,
    ports: Ports,
}

fn writer(env_file: &Arc<Mutex<Option<EnvFile>>>, announce: &Announcer) -> super::OnChange {
    let (env_file, announce) = (env_file.clone(), announce.clone());
    Box::new(move |snapshot| {
        if let Some(file) = &*env_file.lock().unwrap_or_else(PoisonError::into_inner)
            && let Err(error) = file.write(snapshot)
        {
            announce(&format!("stack.env is out of date: {}", describe_error(&error)));
        }
    })
}

async fn databases(options: &StackOptions, servers: &Servers) -> Result<DatabaseUrls, StackError> {
    if let Some(given) = &options.given.databases {
        for (name, (_, url)) in DATABASES.into_iter().zip(given.variables()) {
            ensure_database(url, name).await?;
        }
        return Ok(given.clone());
    }
    servers.create_databases().await?.ok_or(StackError::NotOurs(ProcessName::Postgres))
}

/// The simulated broker's books live and die with the private databases: a broker that remembers what the engine has
/// forgotten, or the other way round, would be a false alarm.
fn broker_state(options: &StackOptions, servers: &Servers) -> Result<PathBuf, StackError> {
    let root = match servers.data_root() {
        Some(root) => root.to_owned(),
        None => {
            private_folder(options.layout.data())?;
            options.layout.data().to_owned()
        }
    };
    let file = root.join("broker-sim.state");
    if !options.keep {
        let _missing = std::fs::remove_file(&file);
    }
    Ok(file)
}

async fn migrate(
    supervisor: &Supervisor,
    layout: &Layout,
    plan: &ServicePlan<'_>,
    name: ProcessName,
) -> Result<(), StackError> {
    let Some(spec) = plan.migrate(name) else { return Ok(()) };
    let status = supervisor.run(spec, MIGRATE_LIMIT).await?;
    if status.success() {
        return Ok(());
    }
    let log = layout.log(name.as_str());
    Err(StackError::DiedEarly { name: format!("{name} migrate"), how: describe(status), tail: tail(&log), log })
}

async fn wait_for_service(
    supervisor: &Supervisor,
    layout: &Layout,
    http: &reqwest::Client,
    copies: &[Addresses],
    name: ProcessName,
) -> Result<(), StackError> {
    let Some(addresses) = copies.get(usize::from(name.copy()).saturating_sub(1)) else {
        return Err(StackError::NotOurs(name));
    };
    let url = match name.first() {
        ProcessName::Postgres | ProcessName::Redis => return Ok(()),
        ProcessName::BrokerSim => format!("{}/sim/v1/health", addresses.sim),
        ProcessName::OrderServer | ProcessName::OrderServerCopy(_) => format!("{}/ops/v1/ready", addresses.ops),
        ProcessName::BrokerGateway | ProcessName::BrokerGatewayCopy(_) => {
            format!("{}/ops/v1/ready", addresses.gateway_ops)
        }
        ProcessName::FillReceiver | ProcessName::FillReceiverCopy(_) => {
            format!("{}/ops/v1/ready", addresses.receiver_ops)
        }
    };
    wait_ready(supervisor, layout, name, READY_LIMIT, || async {
        let answer = http.get(&url).send().await.map_err(|error| describe_error(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(format!("{status}: {}", answer.text().await.unwrap_or_default()))
    })
    .await
}

fn env_values(
    copies: &[Addresses],
    addresses: &Addresses,
    databases: &DatabaseUrls,
    servers: &Servers,
    secrets: &Secrets,
    key: &ApiKey,
) -> BTreeMap<String, String> {
    let values = [
        ("ORDER_API_URL", &addresses.order_api),
        ("OPS_URL", &addresses.ops),
        ("GATEWAY_OPS_URL", &addresses.gateway_ops),
        ("RECEIVER_OPS_URL", &addresses.receiver_ops),
        ("SIM_URL", &addresses.sim),
        ("PUSH_URL", &addresses.push),
        ("PUSH_KEY_ID", &secrets.push_key_id),
        ("PUSH_SECRET", &secrets.push_secret),
        ("APCA_API_KEY_ID", &key.key_id),
        ("APCA_API_SECRET_KEY", &key.secret_key),
        ("REDIS_URL", &servers.redis_url),
        ("OPS_TOKEN", &secrets.ops_token),
        ("OPS_TOKEN_ALICE", &secrets.alice_token),
        ("OPS_TOKEN_BOB", &secrets.bob_token),
        ("PEER_TOKEN", &secrets.peer_token),
    ];
    let further = copies.iter().enumerate().skip(1).flat_map(|(index, copy)| {
        let of_copy = [
            ("ORDER_API_URL", &copy.order_api),
            ("OPS_URL", &copy.ops),
            ("GATEWAY_OPS_URL", &copy.gateway_ops),
            ("RECEIVER_OPS_URL", &copy.receiver_ops),
        ];
        of_copy.map(|(name, url)| (format!("{name}_{}", index + 1), url.clone()))
    });
    let own = values.into_iter().map(|(name, value)| (name.to_owned(), value.clone()));
    own.chain(further).chain(databases.variables().map(|(name, url)| (name.to_owned(), url.to_owned()))).collect()
}
