//! How the project's own processes are started: their addresses and settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::child::ChildSpec;
use super::error::StackError;
use super::layout::Layout;
use super::name::ProcessName;
use super::ports::ReservedPort;
use super::secret;
use super::servers::DatabaseUrls;

/// The one omnibus account that all customers' orders go through at the simulated broker.
const BROKER_ACCOUNT: &str = "5f1f4f5c-6d7e-4a8b-9c0d-1e2f3a4b5c6d";

/// A minute of the gateway's retry ladder, unless the environment says otherwise: on one machine nobody has to be
/// patient with a broker, and the order of events is the same.
const RETRY_MINUTE: (&str, &str) = ("BROKER_GATEWAY__RETRY__MINUTE_MS", "1000");

/// When the market of a stack is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum MarketHours {
    /// At any hour.
    #[default]
    Always,
    /// In the exchange's real sessions.
    Real,
}

impl MarketHours {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Real => "real",
        }
    }
}

/// The reserved ports of the services.
#[derive(Debug)]
pub(super) struct Ports {
    sim: ReservedPort,
    /// Of the first copy of each engine process, of the second, and so on.
    copies: Vec<CopyPorts>,
}

#[derive(Debug)]
struct CopyPorts {
    api: ReservedPort,
    ops: ReservedPort,
    gateway: ReservedPort,
    receiver: ReservedPort,
    push: ReservedPort,
}

impl Ports {
    /// Reserves all of them.
    ///
    /// # Errors
    /// When the system has no free port.
    pub(super) fn reserve(copies: u8) -> Result<Self, StackError> {
        let copy = |_| {
            Ok(CopyPorts {
                api: ReservedPort::free()?,
                ops: ReservedPort::free()?,
                gateway: ReservedPort::free()?,
                receiver: ReservedPort::free()?,
                push: ReservedPort::free()?,
            })
        };
        let copies = (0..copies.max(1)).map(copy).collect::<Result<_, StackError>>()?;
        Ok(Self { sim: ReservedPort::free()?, copies })
    }

    fn of(&self, name: ProcessName) -> Option<&CopyPorts> {
        self.copies.get(usize::from(name.copy()).saturating_sub(1))
    }

    /// Their base URLs, of each copy; there is at least one.
    #[must_use]
    pub(super) fn addresses(&self) -> Vec<Addresses> {
        let of_copy = |ports: &CopyPorts| Addresses {
            order_api: ports.api.url(),
            ops: ports.ops.url(),
            sim: self.sim.url(),
            gateway_ops: ports.gateway.url(),
            receiver_ops: ports.receiver.url(),
            push: format!("{}/push/v1/events", ports.push.url()),
        };
        self.copies.iter().map(of_copy).collect()
    }
}

/// Base URLs of a stack's services, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The order API.
    pub order_api: String,
    /// The order server's operator port.
    pub ops: String,
    /// The simulated broker.
    pub sim: String,
    /// The broker gateway's operator port.
    pub gateway_ops: String,
    /// The fill receiver's operator port.
    pub receiver_ops: String,
    /// Where the fill receiver takes pushes.
    pub push: String,
}

/// What the services authenticate each other with.
#[derive(Clone)]
pub struct Secrets {
    /// For the operator ports.
    pub ops_token: String,
    /// Tokens of two persons, since some decisions take two.
    pub alice_token: String,
    /// The other person's.
    pub bob_token: String,
    /// For feeds and reference data between the processes.
    pub peer_token: String,
    /// Our key at the simulated broker.
    pub broker_key_id: String,
    /// Its secret.
    pub broker_secret_key: String,
    /// The broker's key for its pushes to us.
    pub push_key_id: String,
    /// Its secret.
    pub push_secret: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// New random ones, except those that the environment gives.
    #[must_use]
    pub fn generate(read: impl Fn(&str) -> Option<String>) -> Self {
        let token = |name: &str| read(name).filter(|value| !value.is_empty()).unwrap_or_else(secret);
        Self {
            ops_token: token("OPS_TOKEN"),
            alice_token: token("OPS_TOKEN_ALICE"),
            bob_token: token("OPS_TOKEN_BOB"),
            peer_token: token("PEER_TOKEN"),
            broker_key_id: "stack".to_owned(),
            broker_secret_key: secret(),
            push_key_id: "stack".to_owned(),
            push_secret: secret(),
        }
    }
}

/// Everything that the specifications of the services are made from.
#[derive(Debug)]
pub(super) struct ServicePlan<'a> {
    /// The stack's folders.
    pub layout: &'a Layout,
    /// Where the binaries are.
    pub bin: &'a Path,
    /// Where the engine's own are.
    pub engine_bin: &'a Path,
    /// The services' ports.
    pub ports: &'a Ports,
    /// What they authenticate with.
    pub secrets: &'a Secrets,
    /// Their databases.
    pub databases: &'a DatabaseUrls,
    /// The address of Redis.
    pub redis_url: &'a str,
    /// When the market is open.
    pub market_hours: MarketHours,
    /// The seed of the simulated broker.
    pub seed: u64,
    /// Where the simulated broker keeps its books over its own restart.
    pub broker_state: PathBuf,
    /// Further variables of single processes, which win over the others.
    pub extra: &'a BTreeMap<ProcessName, Vec<(String, String)>>,
}

impl ServicePlan<'_> {
    /// How a service is started; `None` for the servers.
    #[must_use]
    pub(super) fn spec(&self, name: ProcessName) -> Option<ChildSpec> {
        let ports = self.ports.of(name)?;
        let own = match name.first() {
            ProcessName::Postgres | ProcessName::Redis => return None,
            ProcessName::OrderServer | ProcessName::OrderServerCopy(_) => self.order_server(ports),
            ProcessName::BrokerGateway | ProcessName::BrokerGatewayCopy(_) => self.broker_gateway(ports),
            ProcessName::FillReceiver | ProcessName::FillReceiverCopy(_) => self.fill_receiver(ports),
            ProcessName::BrokerSim => self.broker_sim(),
        };
        let shared = [
            ("REDIS_URL", self.redis_url),
            ("OPS_TOKEN", &self.secrets.ops_token),
            ("PEER_TOKEN", &self.secrets.peer_token),
        ];
        let bin = if name == ProcessName::BrokerSim { self.bin } else { self.engine_bin };
        let binary = bin.join(name.program());
        let mut spec = ChildSpec::new(binary, self.layout.checkout(), self.layout.log(name.as_str()));
        if name != ProcessName::BrokerSim {
            spec.env.extend(shared.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        let prefix = match name {
            ProcessName::OrderServer | ProcessName::OrderServerCopy(_) => Some("ORDER_SERVER"),
            ProcessName::BrokerGateway | ProcessName::BrokerGatewayCopy(_) => Some("BROKER_GATEWAY"),
            ProcessName::FillReceiver | ProcessName::FillReceiverCopy(_) => Some("FILL_RECEIVER"),
            ProcessName::Postgres | ProcessName::Redis | ProcessName::BrokerSim => None,
        };
        if let Some(prefix) = prefix {
            let persons = [("ALICE", &self.secrets.alice_token), ("BOB", &self.secrets.bob_token)];
            let named =
                persons.map(|(person, token)| (format!("{prefix}__TOKENS__OPERATORS__{person}"), token.clone()));
            spec.env.extend(named);
        }
        spec.env.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
        spec.env.extend(self.extra.get(&name.first()).into_iter().flatten().cloned());
        Some(spec)
    }

    /// How a service's migrations are applied; `None` for a process without a database.
    #[must_use]
    pub(super) fn migrate(&self, name: ProcessName) -> Option<ChildSpec> {
        ProcessName::ENGINE.contains(&name).then(|| self.spec(name)).flatten().map(|spec| spec.args(["migrate"]))
    }

    fn broker_sim(&self) -> Vec<(&'static str, String)> {
        vec![
            ("BROKER_SIM__ADDR", self.ports.sim.address()),
            ("BROKER_SIM__KEY_ID", self.secrets.broker_key_id.clone()),
            ("BROKER_SIM__SECRET_KEY", self.secrets.broker_secret_key.clone()),
            ("BROKER_SIM__ACCOUNT_ID", BROKER_ACCOUNT.to_owned()),
            ("BROKER_SIM__SEED", self.seed.to_string()),
            ("BROKER_SIM__STATE_FILE", self.broker_state.display().to_string()),
            ("BROKER_SIM__MARKET_HOURS", self.market_hours.as_str().to_owned()),
            (
                "BROKER_SIM__PUSH_URL",
                self.ports.addresses().first().map(|first| first.push.clone()).unwrap_or_default(),
            ),
            ("BROKER_SIM__PUSH_KEY_ID", self.secrets.push_key_id.clone()),
            ("BROKER_SIM__PUSH_SECRET", self.secrets.push_secret.clone()),
        ]
    }

    fn order_server(&self, ports: &CopyPorts) -> Vec<(&'static str, String)> {
        vec![
            ("ORDER_CORE_DATABASE_URL", self.databases.order_core.clone()),
            ("ORDER_SERVER__HTTP__API_ADDR", ports.api.address()),
            ("ORDER_SERVER__HTTP__OPS_ADDR", ports.ops.address()),
            ("ORDER_SERVER__PEERS__GATEWAY_URL", ports.gateway.url()),
            ("ORDER_SERVER__PEERS__RECEIVER_URL", ports.receiver.url()),
            ("ORDER_SERVER__MARKET__HOURS", self.market_hours.as_str().to_owned()),
        ]
    }

    fn broker_gateway(&self, ports: &CopyPorts) -> Vec<(&'static str, String)> {
        let (minute, default) = RETRY_MINUTE;
        vec![
            (minute, std::env::var(minute).unwrap_or_else(|_| default.to_owned())),
            ("BROKER_GATEWAY_DATABASE_URL", self.databases.broker_gateway.clone()),
            ("BROKER_GATEWAY__HTTP__OPS_ADDR", ports.gateway.address()),
            ("BROKER_GATEWAY__PEERS__ORDER_SERVER_URL", ports.ops.url()),
            ("BROKER_GATEWAY__PEERS__RECEIVER_URL", ports.receiver.url()),
            ("BROKER_GATEWAY__BROKER__BASE_URL", self.ports.sim.url()),
            ("BROKER_GATEWAY__BROKER__KEY_ID", self.secrets.broker_key_id.clone()),
            ("BROKER_GATEWAY__BROKER__SECRET_KEY", self.secrets.broker_secret_key.clone()),
            ("BROKER_GATEWAY__BROKER__ACCOUNT_ID", BROKER_ACCOUNT.to_owned()),
            // Calls and restarts keep their real time, so an order needs more of those minutes.
            ("BROKER_GATEWAY__RETRY__VALID_FOR_MINUTES", "60".to_owned()),
        ]
    }

    fn fill_receiver(&self, ports: &CopyPorts) -> Vec<(&'static str, String)> {
        vec![
            ("FILL_RECEIVER_DATABASE_URL", self.databases.fill_receiver.clone()),
            ("FILL_RECEIVER__HTTP__OPS_ADDR", ports.receiver.address()),
            ("FILL_RECEIVER__PUSH__ADDR", ports.push.address()),
            ("FILL_RECEIVER__PUSH__KEYS", push_keys(self.secrets)),
            ("FILL_RECEIVER__BROKER__BASE_URL", self.ports.sim.url()),
            ("FILL_RECEIVER__BROKER__KEY_ID", self.secrets.broker_key_id.clone()),
            ("FILL_RECEIVER__BROKER__ACCOUNT_ID", BROKER_ACCOUNT.to_owned()),
            ("FILL_RECEIVER__BROKER__SECRET_KEY", self.secrets.broker_secret_key.clone()),
        ]
    }
}

/// The one key, as the receiver's configuration takes keys from the environment.
fn push_keys(secrets: &Secrets) -> String {
    format!("[{{id=\"{}\",secret=\"{}\"}}]", secrets.push_key_id, secrets.push_secret)
}
