//! The private PostgreSQL server of a stack.
//!
//! It runs with the server's default durability, listens on one loopback port and no socket, asks for passwords, and
//! never runs as root. Each service has a role and a database of its own; no role can connect to another's database.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Uid, User, geteuid};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::time::{Instant, sleep};

use super::child::{ChildSpec, describe, tail};
use super::error::{IoContext, StackError};
use super::layout::{Layout, passable_folder, private_folder, write_atomically};
use super::name::ProcessName;
use super::supervisor::Supervisor;

/// Where Debian keeps its servers, one folder a version.
const DEBIAN_SERVERS: &str = "/usr/lib/postgresql";
/// The operating system user that the server runs as where the stack runs as root.
const SERVER_USER: &str = "postgres";
const INITDB_LIMIT: Duration = Duration::from_secs(120);
const OLD_SERVER_LIMIT: Duration = Duration::from_secs(60);
const CONNECTIONS_MAX: u32 = 400;
/// What differs from the server's defaults, which are made for machines with very little memory: room for the pages in
/// use, and for the log between two checkpoints, after each of which every page is written whole once more. Durability
/// is the default.
const SIZES: [&str; 5] =
    ["shared_buffers=512MB", "min_wal_size=1GB", "max_wal_size=4GB", "checkpoint_timeout=15min", "wal_compression=lz4"];
const MOUNT_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// Where the server's data is and who runs it.
#[derive(Clone, Debug)]
pub(super) struct PostgresHome {
    bin: PathBuf,
    root: PathBuf,
    data: PathBuf,
    /// The file system of its own that the data is on, where it has one.
    disk: Option<PathBuf>,
    password_file: PathBuf,
    user: Option<String>,
    port: u16,
}

impl PostgresHome {
    /// Finds the installed server and a folder for its data that the server's user can reach.
    ///
    /// # Errors
    /// When no server is installed, or no such folder can be made.
    pub(super) async fn choose(supervisor: &Supervisor, layout: &Layout, port: u16) -> Result<Self, StackError> {
        let bin = find_server()?;
        let user = server_user()?;
        let root = match &user {
            None => {
                private_folder(layout.data())?;
                layout.data().to_owned()
            }
            Some(user) => reachable_folder(supervisor, layout, user).await?,
        };
        let disk = match layout.disk_mib() {
            Some(mib) => Some(mount_disk(supervisor, layout, root.join("disk"), mib).await?),
            None => None,
        };
        let data = disk.as_ref().unwrap_or(&root).join("pg");
        let password_file = root.join("pg.password");
        Ok(Self { bin, root, data, disk, password_file, user: user.map(|user| user.name), port })
    }

    /// The folder above the server's data, for what else belongs to it.
    #[must_use]
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The file system of its own that the data is on, where it has one.
    #[must_use]
    pub(super) fn disk(&self) -> Option<&Path> {
        self.disk.as_deref()
    }

    /// Makes the data folder anew, or keeps the one that is there. Returns the superuser's password.
    ///
    /// # Errors
    /// When an old server still uses it, or it cannot be made.
    pub(super) async fn prepare(
        &self,
        supervisor: &Supervisor,
        layout: &Layout,
        keep: bool,
    ) -> Result<String, StackError> {
        wait_until_unused(&self.data).await?;
        if keep && self.data.join("PG_VERSION").exists() {
            let password = fs::read_to_string(&self.password_file)
                .context_io(|| format!("reading {}", self.password_file.display()))?;
            return Ok(password.trim().to_owned());
        }
        if self.data.exists() {
            fs::remove_dir_all(&self.data).context_io(|| format!("removing {}", self.data.display()))?;
        }
        let password = super::secret();
        write_atomically(&self.password_file, &password)?;
        self.own_folder()?;
        self.initialise(supervisor, layout).await?;
        Ok(password)
    }

    fn own_folder(&self) -> Result<(), StackError> {
        let made = || {
            fs::DirBuilder::new().mode(0o700).create(&self.data)?;
            if let Some(user) = self.user.as_deref().and_then(|name| User::from_name(name).ok().flatten()) {
                let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
                chown(&self.data, Some(uid), Some(gid))?;
                chown(&self.password_file, Some(uid), Some(gid))?;
            }
            Ok(())
        };
        made().context_io(|| format!("making the folder {}", self.data.display()))
    }

    async fn initialise(&self, supervisor: &Supervisor, layout: &Layout) -> Result<(), StackError> {
        let log = layout.log("initdb");
        let spec = ChildSpec::new(self.bin.join("initdb"), "/", &log)
            .args(["--auth=scram-sha-256", "--username=postgres", "--encoding=UTF8", "--locale=C"])
            .args(["--pwfile".into(), self.password_file.clone().into_os_string()])
            .args(["--pgdata".into(), self.data.clone().into_os_string()])
            // The smallest segments: on a small disk the log is to meet its end as well as the tables do.
            .args(self.disk.as_ref().map(|_| "--wal-segsize=1"))
            .user(self.user.clone());
        let status = supervisor.run(spec, INITDB_LIMIT).await?;
        if status.success() {
            return Ok(());
        }
        Err(StackError::DiedEarly { name: "initdb".to_owned(), how: describe(status), tail: tail(&log), log })
    }

    /// How the server is started, with `more` settings than every stack has.
    #[must_use]
    pub(super) fn server(&self, layout: &Layout, more: &[(String, String)]) -> ChildSpec {
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            "unix_socket_directories=".to_owned(),
            format!("max_connections={CONNECTIONS_MAX}"),
        ];
        let mut spec = ChildSpec::new(self.bin.join("postgres"), "/", layout.log(ProcessName::Postgres.as_str()))
            .args(["-D".into(), self.data.clone().into_os_string()])
            .user(self.user.clone());
        let settings = settings.into_iter().chain(SIZES.map(str::to_owned));
        for setting in settings.chain(more.iter().map(|(name, value)| format!("{name}={value}"))) {
            spec = spec.args(["-c".to_owned(), setting]);
        }
        // SIGINT is the server's fast shutdown: it ends sessions, writes a checkpoint and leaves nothing behind.
        spec.death_signal = Signal::SIGINT;
        spec.stop_signal = Signal::SIGINT;
        spec
    }

    /// The address of a database of this server.
    #[must_use]
    pub(super) fn url(&self, role: &str, password: &str, database: &str) -> String {
        format!("postgres://{role}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Waits until the processes of a killed server are gone, so that a new one can use the data.
    ///
    /// # Errors
    /// When they are still there after a limit.
    pub(super) async fn wait_until_unused(&self) -> Result<(), StackError> {
        wait_until_unused(&self.data).await
    }
}

/// Mounts an empty file system of that size, in memory.
async fn mount_disk(supervisor: &Supervisor, layout: &Layout, disk: PathBuf, mib: u32) -> Result<PathBuf, StackError> {
    passable_folder(&disk)?;
    let log = layout.log("mount");
    let spec = ChildSpec::new("mount", "/", &log)
        .args(["-t", "tmpfs", "-o"])
        .args([format!("size={mib}m,mode=0755"), "tmpfs".to_owned()])
        .args([&disk]);
    let status = supervisor.run(spec, MOUNT_LIMIT).await?;
    if status.success() {
        return Ok(disk);
    }
    Err(StackError::DiedEarly { name: "mount".to_owned(), how: describe(status), tail: tail(&log), log })
}

/// Makes a role with a database of its own, or sets the password of the role that is there.
///
/// # Errors
/// When the server refuses.
pub(super) async fn create_database(admin_url: &str, name: &str, password: &str) -> Result<(), StackError> {
    let work = async {
        let mut connection = connect(admin_url).await?;
        let found: Option<i32> = sqlx::query_scalar("select 1 from pg_database where datname = $1")
            .bind(name)
            .fetch_optional(&mut connection)
            .await?;
        // `name` is a constant of this crate and `password` hexadecimal, so neither can break out of the text.
        let statements = if found.is_some() {
            vec![format!("alter role {name} password '{password}'")]
        } else {
            vec![
                format!("create role {name} login password '{password}'"),
                format!("create database {name} owner {name}"),
                format!("revoke connect, temporary on database {name} from public"),
            ]
        };
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        connection.close().await
    };
    work.await.map_err(|source| StackError::Database { database: name.to_owned(), source })
}

/// Creates the database of a given URL where its server does not have it yet.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn ensure_database(url: &str, name: &str) -> Result<(), StackError> {
    use sqlx::migrate::MigrateDatabase;
    let work = async {
        if !sqlx::Postgres::database_exists(url).await? {
            sqlx::Postgres::create_database(url).await?;
        }
        Ok(())
    };
    work.await.map_err(|source| StackError::Database { database: name.to_owned(), source })
}

/// Tries to connect once.
///
/// # Errors
/// The driver's.
pub(super) async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    options.disable_statement_logging().connect().await
}

/// The folder of the installed server's programs.
///
/// # Errors
/// When no server is installed.
pub fn find_server() -> Result<PathBuf, StackError> {
    if let Some(bin) = std::env::var_os("POSTGRES_BIN_DIR").map(PathBuf::from) {
        return Ok(bin);
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(DEBIAN_SERVERS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin): &(u32, PathBuf)| bin.join("postgres").exists() && bin.join("initdb").exists())
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path =
        || std::env::split_paths(&path).find(|bin| bin.join("postgres").exists() && bin.join("initdb").exists());
    versions.pop().map(|(_, bin)| bin).or_else(on_path).ok_or(StackError::MissingProgram {
        program: "the PostgreSQL server".to_owned(),
        advice: "install it with scripts/servers.sh, or set POSTGRES_BIN_DIR to the folder of its programs",
    })
}

/// The user that the server runs as: the present one, unless that is root.
fn server_user() -> Result<Option<User>, StackError> {
    if geteuid() != Uid::from_raw(0) {
        return Ok(None);
    }
    match User::from_name(SERVER_USER) {
        Ok(Some(user)) => Ok(Some(user)),
        Ok(None) | Err(_) => Err(StackError::MissingProgram {
            program: format!("the operating system user {SERVER_USER}"),
            advice: "PostgreSQL does not run as root; scripts/servers.sh installs the package that adds the user",
        }),
    }
}

/// A folder owned by us in which the server's user can have one: in the checkout, or under /var/tmp where that user
/// cannot pass through the folders above the checkout.
async fn reachable_folder(supervisor: &Supervisor, layout: &Layout, user: &User) -> Result<PathBuf, StackError> {
    let mut tried = Vec::new();
    for root in [layout.data(), layout.fallback_data()] {
        if let Some(parent) = root.parent() {
            passable_folder(parent)?;
        }
        passable_folder(root)?;
        let test = ChildSpec::new("test", "/", layout.log("initdb"))
            .args(["-x".into(), root.as_os_str().to_owned()])
            .user(Some(user.name.clone()));
        if supervisor.run(test, POLL * 100).await?.success() {
            return Ok(root.to_owned());
        }
        tried.push(root.display().to_string());
    }
    Err(StackError::Settings(format!("the user {} can reach none of {}", user.name, tried.join(", "))))
}

/// A server that was killed leaves its processes for a moment, and one whose stack was killed shuts down by itself:
/// both must be gone before the data is used or removed. Each of them works in the data folder.
async fn wait_until_unused(data: &Path) -> Result<(), StackError> {
    let until = Instant::now() + OLD_SERVER_LIMIT;
    while works_in(data) {
        if Instant::now() > until {
            return Err(StackError::Settings(format!("an old server still uses {}", data.display())));
        }
        sleep(POLL).await;
    }
    Ok(())
}

fn works_in(folder: &Path) -> bool {
    let Ok(folder) = fs::canonicalize(folder) else { return false };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit())))
        .any(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder))
}
