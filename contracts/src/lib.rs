//! The vocabulary that every process of the order router shares: ids, money, order terms, the
//! events that pass between processes, and the wire types of the broker dialect.
//!
//! Pure by rule: no I/O, no clock, no randomness. Values are checked where they enter (a
//! constructor or a deserializer) and trusted from there on.

pub mod alpaca;
pub mod broker_key;
pub mod calendar;
pub mod decimal;
pub mod event;
pub mod ids;
pub mod money;
pub mod partition;
pub mod symbol;
pub mod terms;

pub use broker_key::BrokerKey;
pub use ids::{AccountId, BrokerId, BrokerOrderId, ClientOrderId, EventId, ExecutionId, IdError, OrderId};
pub use money::{Currency, Money, MoneyError, Price, Quantity};
pub use partition::Partition;
pub use symbol::Symbol;
pub use terms::{OrderTerms, OrderType, Side, TermsError, TimeInForce};
