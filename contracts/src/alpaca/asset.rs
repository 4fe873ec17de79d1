//! A tradable asset as the dialect shows it.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::words::{AssetClass, AssetStatus, Exchange};
use super::{number, wire};

/// One row of `GET /v1/assets` at the broker and of `GET /v2/assets` here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetEntity {
    /// The asset's id.
    pub id: Uuid,
    /// The asset's class; the field is called `class` on the wire.
    #[serde(rename = "class", default, deserialize_with = "wire::null_as_default")]
    pub asset_class: AssetClass,
    /// Where it is listed.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub exchange: Exchange,
    /// The symbol.
    pub symbol: String,
    /// The name, for people.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether it is listed at all.
    pub status: AssetStatus,
    /// Whether orders are taken.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub tradable: bool,
    /// Whether it may be bought on margin.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub marginable: bool,
    /// Whether it may be sold short.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub shortable: bool,
    /// Whether shares to sell short are easily had.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub easy_to_borrow: bool,
    /// Whether parts of a share are traded.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub fractionable: bool,
    /// Smallest quantity of an order.
    #[serde(default, with = "number::option", skip_serializing_if = "Option::is_none")]
    pub min_order_size: Option<Decimal>,
    /// Step of quantities.
    #[serde(default, with = "number::option", skip_serializing_if = "Option::is_none")]
    pub min_trade_increment: Option<Decimal>,
    /// Step of prices.
    #[serde(default, with = "number::option", skip_serializing_if = "Option::is_none")]
    pub price_increment: Option<Decimal>,
    /// Labels.
    #[serde(default, deserialize_with = "wire::null_as_default")]
    pub attributes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_is_the_name_on_the_wire() {
        let asset: AssetEntity = serde_json::from_str(
            r#"{"id":"61e69015-8549-4bfd-b9c3-01e75843f47d","class":"us_equity","exchange":"NASDAQ",
                "symbol":"AAPL","status":"active","tradable":true,"attributes":null}"#,
        )
        .unwrap();
        let written = serde_json::to_value(&asset).unwrap();
        assert_eq!(written["class"], "us_equity");
        assert_eq!(written["easy_to_borrow"], false);
        assert!(written.get("price_increment").is_none());
    }
}
