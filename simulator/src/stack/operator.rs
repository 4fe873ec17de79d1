//! The calls of the order server's operator port that a stack and the drills need.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::StackError;

const CALL_LIMIT: Duration = Duration::from_secs(10);
/// The longest part of an answer that is quoted in an error, in characters.
const QUOTE_MAX: usize = 400;

/// A customer account that was just created.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NewAccount {
    /// Its id.
    pub account_id: String,
    /// The number that customers see.
    pub account_number: String,
}

/// The key pair of an account for the order API.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct ApiKey {
    /// Goes into `APCA-API-KEY-ID`.
    pub key_id: String,
    /// Goes into `APCA-API-SECRET-KEY`.
    pub secret_key: String,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// A client of the operator port.
#[derive(Clone)]
pub struct Operator {
    http: reqwest::Client,
    base_url: String,
    token: String,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Operator").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl Operator {
    /// A client of the operator port at `base_url`.
    #[must_use]
    pub fn new(http: reqwest::Client, base_url: String, token: String) -> Self {
        Self { http, base_url, token }
    }

    /// Creates an account in US dollars.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn create_account(&self) -> Result<NewAccount, StackError> {
        self.post("/ops/v1/accounts", &json!({"currency": "USD"})).await
    }

    /// Deposits US dollars.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn deposit(&self, account_id: &str, amount: &str, reference: &str) -> Result<(), StackError> {
        let body = json!({"amount": amount, "currency": "USD", "reference": reference});
        let _receipt: serde_json::Value = self.post(&format!("/ops/v1/accounts/{account_id}/deposits"), &body).await?;
        Ok(())
    }

    /// Issues a key of an account.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn issue_key(&self, account_id: &str) -> Result<ApiKey, StackError> {
        self.post(&format!("/ops/v1/accounts/{account_id}/keys"), &json!({})).await
    }

    /// An account with cash and a key.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn open_account(&self, amount: &str, reference: &str) -> Result<(NewAccount, ApiKey), StackError> {
        let account = self.create_account().await?;
        self.deposit(&account.account_id, amount, reference).await?;
        let key = self.issue_key(&account.account_id).await?;
        Ok((account, key))
    }

    /// What the order server's own check of its books finds, one text a violation.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn audit(&self) -> Result<Vec<String>, StackError> {
        #[derive(Deserialize)]
        struct Audit {
            violations: Vec<serde_json::Value>,
        }
        let path = "/ops/v1/audit";
        let audit: Audit = Self::answer(
            &format!("GET {path}"),
            self.http.get(format!("{}{path}", self.base_url)).bearer_auth(&self.token),
        )
        .await?;
        Ok(audit.violations.iter().map(ToString::to_string).collect())
    }

    /// The story of the order that an id stands for, over all processes.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn explain(&self, id: &str) -> Result<serde_json::Value, StackError> {
        let path = format!("/ops/v1/explain/{id}");
        let request = self.http.get(format!("{}{path}", self.base_url)).bearer_auth(&self.token);
        Self::answer(&format!("GET {path}"), request).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> Result<T, StackError> {
        let request = self.http.post(format!("{}{path}", self.base_url)).bearer_auth(&self.token).json(body);
        Self::answer(&format!("POST {path}"), request).await
    }

    async fn answer<T: DeserializeOwned>(call: &str, request: reqwest::RequestBuilder) -> Result<T, StackError> {
        let failed = |why: String| StackError::Operator { call: call.to_owned(), why };
        let answer = request.timeout(CALL_LIMIT).send().await.map_err(|error| failed(describe(&error)))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| failed(describe(&error)))?;
        if !status.is_success() {
            return Err(failed(format!("{status}: {}", quote(&text))));
        }
        serde_json::from_str(&text).map_err(|error| failed(format!("{error} in the answer {}", quote(&text))))
    }
}

fn quote(text: &str) -> String {
    text.chars().take(QUOTE_MAX).collect()
}

/// An error with its causes, which reqwest leaves out of its own text.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
