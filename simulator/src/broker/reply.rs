//! What a client gets, and how.

use contracts::alpaca::ApiError;
use serde::Serialize;

/// A reply as the broker means it, and what happens to it on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// JSON, or nothing for 204.
    pub body: Vec<u8>,
    /// What the connection does with it.
    pub delivery: Delivery,
}

/// What the connection does with a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Sends it.
    Send,
    /// Sends it after some milliseconds.
    SendAfter(u64),
    /// Closes instead.
    HangUp,
    /// Holds it for some milliseconds, then closes.
    NeverAnswer(u64),
    /// Sends half of it, then closes.
    HalfBody,
    /// Sends a page of HTML instead.
    Html,
}

impl Reply {
    /// A JSON reply.
    #[must_use]
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status, body, delivery: Delivery::Send },
            Err(_) => Self { status: 500, body: Vec::new(), delivery: Delivery::Send },
        }
    }

    /// An error of the dialect.
    #[must_use]
    pub fn error(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self::json(status, &ApiError::new(code, message))
    }

    /// 204.
    #[must_use]
    pub fn no_content() -> Self {
        Self { status: 204, body: Vec::new(), delivery: Delivery::Send }
    }

    /// Closes the connection.
    #[must_use]
    pub fn hang_up() -> Self {
        Self { status: 204, body: Vec::new(), delivery: Delivery::HangUp }
    }

    /// The same reply, delivered in another way.
    #[must_use]
    pub fn delivered(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }
}
