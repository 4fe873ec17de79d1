//! One wrong change of the engine's source.

use thiserror::Error;

use super::catcher::Catcher;

/// A wrong change, and what must notice it.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    /// What it does.
    pub name: &'static str,
    /// What is lost or doubled by it.
    pub harm: &'static str,
    /// The change. More than one edit where a second guard stands behind the first.
    pub edits: &'static [Edit],
    /// What must fail.
    pub catcher: Catcher,
}

impl Mutation {
    /// The files that it changes, each once.
    #[must_use]
    pub fn files(&self) -> Vec<&'static str> {
        let mut files: Vec<_> = self.edits.iter().map(|edit| edit.file).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

/// A text that is replaced by another.
#[derive(Clone, Copy, Debug)]
pub struct Edit {
    /// The file, from the root of the tree.
    pub file: &'static str,
    /// What stands there, exactly once.
    pub old: &'static str,
    /// What shall stand there.
    pub new: &'static str,
}

/// Why an edit cannot be made.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{file}: the text to be changed stands there {times} times, not once:\n{old}")]
pub struct DoesNotApply {
    /// The file.
    pub file: &'static str,
    /// How often the text was found.
    pub times: usize,
    /// The text.
    pub old: &'static str,
}

impl Edit {
    /// The file's text with the change.
    ///
    /// # Errors
    /// [`DoesNotApply`] unless the old text stands there exactly once.
    pub fn apply(&self, text: &str) -> Result<String, DoesNotApply> {
        match text.matches(self.old).count() {
            1 => Ok(text.replacen(self.old, self.new, 1)),
            times => Err(DoesNotApply { file: self.file, times, old: self.old }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_whose_text_is_not_there_exactly_once_is_refused() {
        let edit = Edit { file: "a.rs", old: "one", new: "two" };
        assert_eq!(edit.apply("one tree").as_deref(), Ok("two tree"));
        for (text, times) in [("no tree", 0), ("one by one", 2)] {
            assert_eq!(edit.apply(text), Err(DoesNotApply { file: "a.rs", times, old: "one" }));
        }
    }
}
