//! The order server: accounts, balances, positions, orders and the order API

pub mod adapters;
pub mod application;
pub mod domain;
