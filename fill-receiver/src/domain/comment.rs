//! Comment lines of the stream. The standard ignores them; this broker says important things there.

/// What a comment line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comment {
    /// Nothing happened, and the connection lives.
    Heartbeat,
    /// The broker threw messages away because we read too slowly: a hole.
    Dropped {
        /// How many, where the broker said so.
        messages: Option<u64>,
    },
    /// The broker failed and is going to close: what it still sends cannot be trusted to be whole.
    ServerError,
    /// Anything else. Proof of life and no more.
    Other,
}

impl Comment {
    /// Reads a comment line without its leading colon.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(line).trim().to_ascii_lowercase();
        if text == "heartbeat" {
            return Self::Heartbeat;
        }
        if text.contains("dropped") {
            return Self::Dropped { messages: first_number(&text) };
        }
        if text.contains("error") {
            return Self::ServerError;
        }
        Self::Other
    }
}

fn first_number(text: &str) -> Option<u64> {
    text.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty()).and_then(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_own_sentences_are_understood() {
        assert_eq!(Comment::parse(b"heartbeat"), Comment::Heartbeat);
        assert_eq!(Comment::parse(b" heartbeat "), Comment::Heartbeat);
        assert_eq!(
            Comment::parse(b" you are reading too slowly, dropped 10000 messages"),
            Comment::Dropped { messages: Some(10_000) }
        );
        assert_eq!(Comment::parse(b"dropped some messages"), Comment::Dropped { messages: None });
        assert_eq!(Comment::parse(b" internal server error"), Comment::ServerError);
        assert_eq!(Comment::parse(b" welcome"), Comment::Other);
        assert_eq!(Comment::parse(b"\xff\xfe"), Comment::Other);
    }
}
