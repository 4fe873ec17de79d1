//! Integration tests of the order server against real PostgreSQL and Redis.

mod commands;
mod facts;
mod world;
