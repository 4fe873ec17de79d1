//! Who is at the operator port. A name that is only written in a body proves nothing, so what needs
//! two persons needs two credentials: operators may have a token of their own each, beside the
//! shared one.

use crate::config::{ConfigError, Secret};
use crate::http::{bearer, unauthorized};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// What the holder of the shared token is called.
pub const SHARED_NAME: &str = "ops";

/// Longest name of an operator.
const NAME_LEN_MAX: usize = 64;

/// Shortest token of an operator, in bytes.
const TOKEN_LEN_MIN: usize = 16;

/// Credentials of a process's callers, as configured.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// Operators.
    pub ops: Secret,
    /// Other processes.
    pub peer: Secret,
    /// Single operators, by name.
    #[serde(default)]
    pub operators: OperatorTokens,
}

impl TokenSettings {
    /// Who may use the operator port.
    #[must_use]
    pub fn operators(&self) -> Operators {
        Operators::new(self.ops.clone(), self.operators.clone())
    }
}

/// Tokens of operators by name, as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct OperatorTokens(BTreeMap<String, Secret>);

impl OperatorTokens {
    /// Wraps tokens by name.
    #[must_use]
    pub const fn new(tokens: BTreeMap<String, Secret>) -> Self {
        Self(tokens)
    }

    /// Checks names and tokens; `others` are the process's other tokens. Two names with one token
    /// would let one person be two.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the operator, never a token.
    pub fn validate(&self, others: &[&Secret]) -> Result<(), ConfigError> {
        let invalid = |text: String| Err(ConfigError::Invalid(text));
        for (name, token) in &self.0 {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
            if name.is_empty() || name.len() > NAME_LEN_MAX || !name.bytes().all(plain) {
                return invalid(format!("tokens.operators: {name:?} must be 1 to 64 of a-z, 0-9, '-', '_' and '.'"));
            }
            if name == SHARED_NAME {
                return invalid(format!("tokens.operators.{name}: the name of the shared token cannot be a person's"));
            }
            if token.expose().len() < TOKEN_LEN_MIN {
                return invalid(format!("tokens.operators.{name} must have at least {TOKEN_LEN_MIN} characters"));
            }
            let elsewhere = self.0.iter().filter(|(other, _)| *other != name).map(|(_, token)| token);
            if elsewhere.chain(others.iter().copied()).any(|other| other.expose() == token.expose()) {
                return invalid(format!("tokens.operators.{name} is also another credential"));
            }
        }
        Ok(())
    }
}

/// Who sent a request, proven by the token that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The name that belongs to the token.
    pub name: String,
}

impl Operator {
    /// Whether the token is the one that several persons may know.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.name == SHARED_NAME
    }
}

/// The credentials of one operator port.
#[derive(Debug, Clone)]
pub struct Operators {
    shared: Secret,
    named: OperatorTokens,
}

impl Operators {
    /// The shared token and those of persons. An empty token admits nobody.
    #[must_use]
    pub const fn new(shared: Secret, named: OperatorTokens) -> Self {
        Self { shared, named }
    }

    /// Compares with every token there is, so that the time tells nothing about which one is near.
    fn find(&self, given: &str) -> Option<Operator> {
        let tokens = std::iter::once((SHARED_NAME, &self.shared));
        let named = self.named.0.iter().map(|(name, token)| (name.as_str(), token));
        let mut found = None;
        for (name, token) in tokens.chain(named) {
            let token = token.expose();
            if bool::from(given.as_bytes().ct_eq(token.as_bytes())) && !token.is_empty() {
                found = Some(Operator { name: name.to_owned() });
            }
        }
        found
    }
}

/// Puts the operators' tokens in front of every route of a router; handlers find the [`Operator`]
/// among the request's extensions.
pub fn require_operator(router: Router, operators: Operators) -> Router {
    router.layer(middleware::from_fn_with_state(Arc::new(operators), check))
}

async fn check(State(operators): State<Arc<Operators>>, mut request: Request, next: Next) -> Response {
    match bearer(request.headers()).and_then(|given| operators.find(given)) {
        Some(operator) => {
            request.extensions_mut().insert(operator);
            next.run(request).await
        }
        None => unauthorized(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(pairs: &[(&str, &str)]) -> OperatorTokens {
        OperatorTokens::new(pairs.iter().map(|(n, t)| ((*n).to_owned(), Secret::new(*t))).collect())
    }

    #[test]
    fn a_token_tells_whose_it_is_and_an_empty_one_admits_nobody() {
        let named = tokens(&[("alice", "alices-long-token"), ("bob", "bobs-longer-token")]);
        let operators = Operators::new(Secret::new("shared"), named.clone());
        let name = |given: &str| operators.find(given).map(|operator| operator.name);
        assert_eq!(name("shared").as_deref(), Some(SHARED_NAME));
        assert_eq!(name("alices-long-token").as_deref(), Some("alice"));
        assert_eq!(name("bobs-longer-token").as_deref(), Some("bob"));
        assert_eq!((name("bob"), name("alices-long-toke"), name("")), (None, None, None));
        assert_eq!(Operators::new(Secret::new(""), named).find(""), None);
    }

    #[test]
    fn one_person_cannot_be_two_by_configuration() {
        let (shared, peer) = (Secret::new("a-shared-token-of-all"), Secret::new("a-token-of-the-peers"));
        let check = |pairs: &[(&str, &str)]| tokens(pairs).validate(&[&shared, &peer]).map_err(|e| e.to_string());
        assert_eq!(check(&[("alice", "alices-long-token"), ("bob", "bobs-longer-token")]), Ok(()));
        for (pairs, name) in [
            (&[("alice", "the-same-long-token"), ("bob", "the-same-long-token")][..], "operators.alice"),
            (&[("alice", "a-shared-token-of-all")], "operators.alice"),
            (&[("alice", "a-token-of-the-peers")], "operators.alice"),
            (&[("alice", "short")], "operators.alice"),
            (&[("ops", "ops-own-long-token")], "operators.ops"),
            (&[("Alice", "alices-long-token")], "Alice"),
        ] {
            let error = check(pairs).unwrap_err();
            assert!(error.contains(name), "{error}");
            assert!(pairs.iter().all(|(_, token)| !error.contains(token)), "{error}");
        }
    }
}
