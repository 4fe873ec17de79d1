//! The order server: accounts, balances, positions, orders and the order API

pub mod adapters;
pub mod application;
pub mod config;
pub mod domain;
pub mod metrics;
pub mod service;
