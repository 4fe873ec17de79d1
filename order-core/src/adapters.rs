//! Where the use cases meet HTTP, the database, Redis and the other processes.

pub mod db;
