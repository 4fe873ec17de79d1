//! Where a stack keeps its files, and the lock that lets only one stack use them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{IoContext, StackError};

/// Digits of the checkout's hash in the name of a data folder outside of it.
const HASH_DIGITS: usize = 16;

/// The folders of one stack.
#[derive(Clone, Debug)]
pub struct Layout {
    checkout: PathBuf,
    run: PathBuf,
    data: PathBuf,
    fallback: PathBuf,
    disk_mib: Option<u32>,
}

impl Layout {
    /// The folders of the stack called `instance` in a checkout: `stack` is the one that `make stack` runs and has
    /// `.run` itself; any other has a folder in it.
    #[must_use]
    pub fn of_checkout(checkout: &Path, instance: &str) -> Self {
        let run = checkout.join(".run");
        Self::new(
            checkout,
            if instance == "stack" { run } else { run.join(instance) },
            checkout.join(".data").join(instance),
            instance,
        )
    }

    /// Folders of the caller's choice, as for a test.
    #[must_use]
    pub fn new(checkout: &Path, run: PathBuf, data: PathBuf, instance: &str) -> Self {
        let digest = Sha256::digest(run.as_os_str().as_encoded_bytes());
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let hash: String = hash.chars().take(HASH_DIGITS).collect();
        let fallback = PathBuf::from(format!("/var/tmp/order-router-{hash}")).join(instance);
        Self { checkout: checkout.to_owned(), run, data, fallback, disk_mib: None }
    }

    /// The same with the database on a file system of this size of its own, in memory. Only for a process whose mounts
    /// are its own: they end with it.
    #[must_use]
    pub fn with_disk(mut self, mib: Option<u32>) -> Self {
        self.disk_mib = mib;
        self
    }

    /// The size of the database's own file system, where it has one.
    #[must_use]
    pub fn disk_mib(&self) -> Option<u32> {
        self.disk_mib
    }

    /// The checkout.
    #[must_use]
    pub fn checkout(&self) -> &Path {
        &self.checkout
    }

    /// The folder of what belongs to the running stack.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The first choice for the data of private servers.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where the data goes when the user of the database server cannot reach the first choice.
    #[must_use]
    pub fn fallback_data(&self) -> &Path {
        &self.fallback
    }

    /// The file with the stack's addresses and process ids.
    #[must_use]
    pub fn env_file(&self) -> PathBuf {
        self.run.join("stack.env")
    }

    /// The log of one process.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.run.join("logs").join(format!("{name}.log"))
    }

    /// Makes the run folder and takes its lock, which is held as long as the returned value.
    ///
    /// # Errors
    /// [`StackError::AlreadyRunning`] when another stack holds it.
    pub fn lock(&self) -> Result<RunLock, StackError> {
        private_folder(&self.run)?;
        private_folder(&self.run.join("logs"))?;
        let path = self.run.join("stack.lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .context_io(|| format!("opening {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _unreadable = file.read_to_string(&mut pid);
                return Err(StackError::AlreadyRunning { run: self.run.clone(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(StackError::Io { what: format!("locking {}", path.display()), source });
            }
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .context_io(|| format!("writing {}", path.display()))?;
        Ok(RunLock { _file: file })
    }
}

/// The run folder is ours while this lives; the kernel frees it when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// Makes a folder that only its owner may enter, with its parents.
pub(crate) fn private_folder(path: &Path) -> Result<(), StackError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .context_io(|| format!("making the folder {}", path.display()))
}

/// Makes a folder below a place that everybody may write to, which others may pass through but not read. It refuses
/// one that somebody else has put there.
pub(crate) fn passable_folder(path: &Path) -> Result<(), StackError> {
    let made = || {
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        match fs::DirBuilder::new().mode(0o711).create(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        fs::symlink_metadata(path)
    };
    let metadata = made().context_io(|| format!("making the folder {}", path.display()))?;
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(StackError::Settings(format!("{} is not a folder of this user", path.display())));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o711))
        .context_io(|| format!("setting the permissions of {}", path.display()))
}

/// Replaces a file whole: a reader sees the old text or the new one, never a part.
pub(crate) fn write_atomically(path: &Path, text: &str) -> Result<(), StackError> {
    let part = path.with_extension("part");
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&part)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&part, path)
    };
    write().context_io(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_folder_has_one_stack_at_a_time() {
        let root = std::env::temp_dir().join(format!("stack-lock-{}", uuid::Uuid::new_v4()));
        let layout = Layout::of_checkout(&root, "stack");
        let held = layout.lock().unwrap();
        let refused = layout.lock().unwrap_err();
        let StackError::AlreadyRunning { pid, .. } = &refused else { panic!("{refused}") };
        assert_eq!(*pid, std::process::id().to_string());
        drop(held);
        drop(layout.lock().unwrap());
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn instances_of_one_checkout_share_no_folder() {
        let stack = Layout::of_checkout(Path::new("/srv/x"), "stack");
        let demo = Layout::of_checkout(Path::new("/srv/x"), "demo");
        let other = Layout::of_checkout(Path::new("/srv/y"), "stack");
        assert_eq!(stack.env_file(), Path::new("/srv/x/.run/stack.env"));
        assert_ne!(stack.run(), demo.run());
        assert_ne!(stack.data(), demo.data());
        assert_ne!(stack.fallback_data(), demo.fallback_data());
        assert_ne!(stack.fallback_data(), other.fallback_data());
    }
}
