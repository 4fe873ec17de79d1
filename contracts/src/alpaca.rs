//! Wire types of the Alpaca Trading and Broker API dialect.
//!
//! They are shapes only: what a body may look like, not whether an order makes sense. The rules of
//! reading and writing are the same in every type:
//!
//! - numbers are written as decimal strings, and read from a string or from the literal text of a
//!   JSON number, never through a float;
//! - a word that we do not know is kept in `Other`, so that one new status never loses a message;
//! - unknown fields are ignored, and an absent field is the same as `null`;
//! - times are RFC 3339.

mod account;
mod asset;
mod clock;
mod error;
mod event;
mod market_data;
pub mod number;
mod order;
mod position;
mod request;
mod wire;
mod words;

pub use account::AccountEntity;
pub use asset::AssetEntity;
pub use clock::ClockEntity;
pub use error::{ApiError, codes};
pub use event::TradeEvent;
pub use market_data::{LatestTrade, LatestTrades};
pub use order::OrderEntity;
pub use position::PositionEntity;
pub use request::OrderRequest;
pub use words::{
    AccountStatus, AssetClass, AssetStatus, Exchange, OrderClass, OrderStatus, OrderType, PositionIntent, PositionSide,
    Side, TimeInForce, TradeEventKind,
};
