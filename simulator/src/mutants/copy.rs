//! A copy of the tree to be changed and built.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use super::mutation::Mutation;

/// A copy of the tree as it stands in the checkout, changes that are not committed included.
#[derive(Debug)]
pub struct WorkingCopy {
    root: PathBuf,
}

impl WorkingCopy {
    /// Brings `root` to the state of the checkout. A file that is the same already is left alone, so that builds go
    /// on from the last run.
    ///
    /// # Errors
    /// When git or the file system fails.
    pub fn of(checkout: &Path, root: &Path) -> anyhow::Result<Self> {
        let files = tree(checkout)?;
        for stale in walk(root)?.difference(&files) {
            fs::remove_file(root.join(stale)).with_context(|| format!("remove {}", stale.display()))?;
        }
        for file in &files {
            let (from, to) = (checkout.join(file), root.join(file));
            let same = matches!((fs::read(&from), fs::read(&to)), (Ok(new), Ok(old)) if new == old);
            if !same {
                let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(&from, &to));
                copied.with_context(|| format!("copy {}", file.display()))?;
            }
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a mutation's edits; they are undone when the answer is dropped.
    ///
    /// # Errors
    /// When an edit does not apply, or a file cannot be read or written.
    pub fn mutate(&self, mutation: &Mutation) -> anyhow::Result<Mutated> {
        let mut mutated = Mutated { originals: Vec::new() };
        for file in mutation.files() {
            let path = self.root.join(file);
            let original = fs::read_to_string(&path).with_context(|| format!("read {file}"))?;
            let edits = mutation.edits.iter().filter(|edit| edit.file == file);
            let text = edits.clone().try_fold(original.clone(), |text, edit| edit.apply(&text))?;
            ensure!(text != original, "{file}: the change changes nothing");
            fs::write(&path, text).with_context(|| format!("write {file}"))?;
            mutated.originals.push((path, original));
        }
        Ok(mutated)
    }
}

/// Changed files.
#[derive(Debug)]
#[must_use = "the change is undone when this is dropped"]
pub struct Mutated {
    originals: Vec<(PathBuf, String)>,
}

impl Drop for Mutated {
    fn drop(&mut self) {
        for (path, original) in &self.originals {
            // The next run brings the copy to the state of the checkout anyway.
            let _written = fs::write(path, original);
        }
    }
}

/// What git knows of, and what is new and not ignored; without what was deleted.
fn tree(checkout: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").arg("-C").arg(checkout).args(list).output().context("run git")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8(output.stdout).context("a file name that is not UTF-8")?;
    let files: BTreeSet<PathBuf> = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    ensure!(files.contains(Path::new("Cargo.toml")), "{} is not the root of the tree", checkout.display());
    Ok(files.into_iter().filter(|file| checkout.join(file).is_file()).collect())
}

/// All files below a folder, from there.
fn walk(root: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(file) = path.strip_prefix(root) {
                files.insert(file.to_owned());
            }
        }
    }
    Ok(files)
}
