//! Where the use cases meet HTTP, the database, Redis and the other processes.

pub mod db;
pub mod health;
pub mod http;
pub mod locks;
pub mod migrations;
pub mod ops;
pub mod peers;
pub mod reference;
pub mod secrets;
pub mod sink;
pub mod watch;
