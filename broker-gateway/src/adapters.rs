//! The outside: the database, the broker's dialect and socket, the bus, the operator port.

pub mod alpaca;
pub mod caller;
pub mod db;
mod gather;
pub mod http;
pub mod intake;
pub mod jitter;
pub mod redrive;
mod straight;
