//! PostgreSQL and Redis of a stack: private ones, or those that were given by URL.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::child::{ChildSpec, tail};
use super::error::StackError;
use super::layout::{Layout, private_folder, write_atomically};
use super::name::ProcessName;
use super::ports::ReservedPort;
use super::postgres::{self, PostgresHome};
use super::secret;
use super::supervisor::Supervisor;

/// The three databases, in the order of [`DatabaseUrls`].
pub(super) const DATABASES: [&str; 3] = ["order_core", "broker_gateway", "fill_receiver"];

const READY_LIMIT: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);

/// The URL of each service's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseUrls {
    /// The order server's.
    pub order_core: String,
    /// The broker gateway's.
    pub broker_gateway: String,
    /// The fill receiver's.
    pub fill_receiver: String,
}

impl DatabaseUrls {
    /// The names of the variables that hold them.
    pub const VARIABLES: [&'static str; 3] =
        ["ORDER_CORE_DATABASE_URL", "BROKER_GATEWAY_DATABASE_URL", "FILL_RECEIVER_DATABASE_URL"];

    /// Variable and value of each.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, &str); 3] {
        let [core, gateway, receiver] = Self::VARIABLES;
        [(core, &self.order_core), (gateway, &self.broker_gateway), (receiver, &self.fill_receiver)]
    }
}

/// Servers that somebody else runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenServers {
    /// The three databases.
    pub databases: Option<DatabaseUrls>,
    /// Redis.
    pub redis: Option<String>,
}

impl GivenServers {
    /// Reads them from `REDIS_URL` and the three database URLs.
    ///
    /// # Errors
    /// When only some of the database URLs are set.
    pub fn from_variables(read: impl Fn(&str) -> Option<String>) -> Result<Self, StackError> {
        let read = |name: &str| read(name).filter(|value| !value.is_empty());
        let databases = match DatabaseUrls::VARIABLES.map(&read) {
            [Some(order_core), Some(broker_gateway), Some(fill_receiver)] => {
                Some(DatabaseUrls { order_core, broker_gateway, fill_receiver })
            }
            [None, None, None] => None,
            some => {
                let missing: Vec<&str> = DatabaseUrls::VARIABLES
                    .into_iter()
                    .zip(some)
                    .filter(|(_, url)| url.is_none())
                    .map(|(n, _)| n)
                    .collect();
                return Err(StackError::Settings(format!(
                    "give the URLs of all three databases or of none; not set: {}",
                    missing.join(", ")
                )));
            }
        };
        Ok(Self { databases, redis: read("REDIS_URL") })
    }
}

/// The servers of a running stack.
#[derive(Debug)]
pub struct Servers {
    /// The address of Redis.
    pub redis_url: String,
    postgres: Option<PrivatePostgres>,
    _redis_port: Option<ReservedPort>,
}

#[derive(Debug)]
struct PrivatePostgres {
    home: PostgresHome,
    password: String,
    _port: ReservedPort,
}

impl Servers {
    /// Starts those servers that are not given, PostgreSQL with these `settings`, and waits until they answer.
    ///
    /// # Errors
    /// When one cannot be started, or is not ready in time.
    pub async fn start(
        supervisor: &Supervisor,
        layout: &Layout,
        keep: bool,
        postgres_given: bool,
        redis_given: Option<&str>,
        settings: &[(String, String)],
    ) -> Result<Self, StackError> {
        let (redis_url, redis_port) = match redis_given {
            Some(url) => (url.to_owned(), None),
            None => {
                let port = ReservedPort::free()?;
                let password = secret();
                supervisor.spawn(ProcessName::Redis, redis_server(layout, &port, &password)?).await?;
                (format!("redis://default:{password}@{}", port.address()), Some(port))
            }
        };
        let postgres = if postgres_given {
            None
        } else {
            let port = ReservedPort::free()?;
            let home = PostgresHome::choose(supervisor, layout, port.port()).await?;
            let password = home.prepare(supervisor, layout, keep).await?;
            supervisor.spawn(ProcessName::Postgres, home.server(layout, settings)).await?;
            Some(PrivatePostgres { home, password, _port: port })
        };
        let servers = Self { redis_url, postgres, _redis_port: redis_port };
        servers.wait_for_redis(supervisor, layout).await?;
        servers.wait_for_postgres(supervisor, layout).await?;
        Ok(servers)
    }

    /// The superuser's URL of the private PostgreSQL server.
    #[must_use]
    pub fn admin_url(&self) -> Option<String> {
        self.postgres.as_ref().map(|server| server.home.url("postgres", &server.password, "postgres"))
    }

    /// The folder beside the database's data, where there is a private server.
    #[must_use]
    pub fn data_root(&self) -> Option<&std::path::Path> {
        self.postgres.as_ref().map(|server| server.home.root())
    }

    /// The file system of its own that the private database's data is on, where it has one.
    #[must_use]
    pub fn database_disk(&self) -> Option<&std::path::Path> {
        self.postgres.as_ref().and_then(|server| server.home.disk())
    }

    /// Creates the three databases, each with a role of its own.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_databases(&self) -> Result<Option<DatabaseUrls>, StackError> {
        let (Some(server), Some(admin)) = (&self.postgres, self.admin_url()) else { return Ok(None) };
        let mut urls = Vec::with_capacity(DATABASES.len());
        for name in DATABASES {
            let password = secret();
            postgres::create_database(&admin, name, &password).await?;
            urls.push(server.home.url(name, &password, name));
        }
        let [order_core, broker_gateway, fill_receiver] = <[String; 3]>::try_from(urls).unwrap_or_default();
        Ok(Some(DatabaseUrls { order_core, broker_gateway, fill_receiver }))
    }

    /// Waits until the data of a dead PostgreSQL server can be used again.
    ///
    /// # Errors
    /// When its old processes do not end.
    pub async fn before_restart(&self, name: ProcessName) -> Result<(), StackError> {
        match (name, &self.postgres) {
            (ProcessName::Postgres, Some(server)) => server.home.wait_until_unused().await,
            _ => Ok(()),
        }
    }

    /// Waits until Redis answers.
    ///
    /// # Errors
    /// When it does not within a limit, or ends.
    pub async fn wait_for_redis(&self, supervisor: &Supervisor, layout: &Layout) -> Result<(), StackError> {
        let url = self.redis_url.clone();
        wait_ready(supervisor, layout, ProcessName::Redis, READY_LIMIT, || {
            let url = url.clone();
            async move { ping_redis(&url).await.map_err(|error| error.to_string()) }
        })
        .await
    }

    /// Waits until the private PostgreSQL server takes connections.
    ///
    /// # Errors
    /// When it does not within a limit, or ends.
    pub async fn wait_for_postgres(&self, supervisor: &Supervisor, layout: &Layout) -> Result<(), StackError> {
        let Some(url) = self.admin_url() else { return Ok(()) };
        wait_ready(supervisor, layout, ProcessName::Postgres, READY_LIMIT, || {
            let url = url.clone();
            async move { postgres::connect(&url).await.map(drop).map_err(|error| error.to_string()) }
        })
        .await
    }
}

async fn ping_redis(url: &str) -> Result<(), redis::RedisError> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("PING").query_async(&mut connection).await
}

/// Redis keeps nothing: it is a lock and a carrier here, and a restart must be survived with all of it gone.
fn redis_server(layout: &Layout, port: &ReservedPort, password: &str) -> Result<ChildSpec, StackError> {
    private_folder(layout.run())?;
    let config = layout.run().join("redis.conf");
    // A file, because a password on the command line shows in the process list.
    write_atomically(
        &config,
        &format!(
            "bind 127.0.0.1\nport {}\nrequirepass {password}\nsave \"\"\nappendonly no\ndaemonize no\n",
            port.port()
        ),
    )?;
    let log = layout.log(ProcessName::Redis.as_str());
    Ok(ChildSpec::new("redis-server", layout.run(), log).args([config]))
}

/// Tries `probe` until it succeeds, the process dies, or the limit has passed. A process that this stack does not run
/// is only probed.
pub(crate) async fn wait_ready<F, P>(
    supervisor: &Supervisor,
    layout: &Layout,
    name: ProcessName,
    limit: Duration,
    probe: F,
) -> Result<(), StackError>
where
    F: Fn() -> P,
    P: Future<Output = Result<(), String>>,
{
    let until = Instant::now() + limit;
    loop {
        let last = match timeout(PING_LIMIT, probe()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => format!("no answer within {} s", PING_LIMIT.as_secs()),
        };
        let state = supervisor.snapshot().remove(&name);
        if let Some(how) = state.filter(|state| state.pid.is_none()).and_then(|state| state.ended) {
            let log = layout.log(name.as_str());
            return Err(StackError::DiedEarly { name: name.to_string(), how, tail: tail(&log), log });
        }
        if Instant::now() > until {
            return Err(StackError::NotReady { name, limit_s: limit.as_secs(), last });
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_database_urls_are_given_or_none() {
        let none = GivenServers::from_variables(|_| None).unwrap();
        assert_eq!(none, GivenServers::default());
        let all = GivenServers::from_variables(|name| Some(format!("url of {name}"))).unwrap();
        assert_eq!(all.redis.as_deref(), Some("url of REDIS_URL"));
        assert_eq!(all.databases.unwrap().fill_receiver, "url of FILL_RECEIVER_DATABASE_URL");
        let one = |name: &str| (name == "ORDER_CORE_DATABASE_URL").then(|| "x".to_owned());
        let error = GivenServers::from_variables(one).unwrap_err().to_string();
        assert!(error.ends_with("not set: BROKER_GATEWAY_DATABASE_URL, FILL_RECEIVER_DATABASE_URL"), "{error}");
    }

    #[test]
    fn an_empty_variable_is_not_a_server() {
        assert_eq!(GivenServers::from_variables(|_| Some(String::new())).unwrap(), GivenServers::default());
    }
}
