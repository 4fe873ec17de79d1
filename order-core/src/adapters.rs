//! The edges of the process: the order API, the operator port, the database, the poll of reference
//! data. Nothing here decides anything about money.

pub mod health;
pub mod http;
pub mod ops;
pub mod reference;
pub mod secrets;
