//! Texts from outside, made fit for a text column: PostgreSQL takes no NUL, and nobody reads more
//! than a few lines.

/// Longest text that is kept, in characters.
const LEN_MAX: usize = 500;

/// Replaces control characters and cuts.
pub(super) fn clean(text: &str) -> String {
    text.chars().take(LEN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_never_reaches_the_database_and_length_is_bounded() {
        assert_eq!(clean("a\u{0}b\nc"), "a b c");
        assert_eq!(clean(&"주".repeat(1000)).chars().count(), LEN_MAX);
    }
}
