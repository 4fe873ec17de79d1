//! The account as the dialect shows it.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;
use uuid::Uuid;

use super::words::AccountStatus;
use super::{number, wire};

/// Answer of `GET /v2/account`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountEntity {
    /// The account's id.
    pub id: Uuid,
    /// The account's number, for people.
    pub account_number: String,
    /// Where the account stands.
    pub status: AccountStatus,
    /// Currency of all its money.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub currency: String,
    /// Money in the account, negative when it owes.
    #[serde(default, with = "number::or_zero")]
    pub cash: Decimal,
    /// Money that new orders may use.
    #[serde(default, with = "number::or_zero")]
    pub buying_power: Decimal,
    /// Buying power under Regulation T.
    #[serde(default, with = "number::or_zero")]
    pub regt_buying_power: Decimal,
    /// Buying power for day trades.
    #[serde(default, with = "number::or_zero")]
    pub daytrading_buying_power: Decimal,
    /// Buying power for what cannot be bought on margin.
    #[serde(default, with = "number::or_zero")]
    pub non_marginable_buying_power: Decimal,
    /// Cash plus the value of the positions.
    #[serde(default, with = "number::or_zero")]
    pub equity: Decimal,
    /// Equity at the last close.
    #[serde(default, with = "number::or_zero")]
    pub last_equity: Decimal,
    /// The same as `equity`, under its older name.
    #[serde(default, with = "number::or_zero")]
    pub portfolio_value: Decimal,
    /// Value of the long positions.
    #[serde(default, with = "number::or_zero")]
    pub long_market_value: Decimal,
    /// Value of the short positions.
    #[serde(default, with = "number::or_zero")]
    pub short_market_value: Decimal,
    /// Margin that opening the positions takes.
    #[serde(default, with = "number::or_zero")]
    pub initial_margin: Decimal,
    /// Margin that keeping the positions takes.
    #[serde(default, with = "number::or_zero")]
    pub maintenance_margin: Decimal,
    /// Maintenance margin at the last close.
    #[serde(default, with = "number::or_zero")]
    pub last_maintenance_margin: Decimal,
    /// Special memorandum account.
    #[serde(default, with = "number::or_zero")]
    pub sma: Decimal,
    /// Leverage: 1 for a cash account.
    #[serde(default, with = "number::or_zero")]
    pub multiplier: Decimal,
    /// Fees that are owed and not yet taken.
    #[serde(default, with = "number::or_zero")]
    pub accrued_fees: Decimal,
    /// Whether the account counts as a day trader; removed by the broker, demanded by older clients.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub pattern_day_trader: bool,
    /// Day trades of the last five days; see `pattern_day_trader`.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub daytrade_count: u32,
    /// Whether orders are refused.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub trading_blocked: bool,
    /// Whether money transfers are refused.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub transfers_blocked: bool,
    /// Whether everything is refused.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub account_blocked: bool,
    /// Whether the owner stopped trading.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub trade_suspended_by_user: bool,
    /// Whether short sales are allowed.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub shorting_enabled: bool,
    /// When the account was made.
    #[serde(default, with = "rfc3339::option")]
    pub created_at: Option<OffsetDateTime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_as_text() {
        let account: AccountEntity = serde_json::from_str(
            r#"{"id":"61e69015-8549-4bfd-b9c3-01e75843f47d","account_number":"A1","status":"ACTIVE",
                "currency":"USD","cash":1000000.25,"multiplier":"1"}"#,
        )
        .unwrap();
        let written = serde_json::to_value(&account).unwrap();
        assert_eq!(written["cash"], "1000000.25");
        assert_eq!(written["multiplier"], "1");
        assert_eq!(written["status"], "ACTIVE");
        assert_eq!(written["trading_blocked"], false);
    }
}
