//! PostgreSQL: the only place with SQL. Locks and leases save work; the conditional updates here
//! protect correctness.

mod dossier;
mod error;
mod gauges;
mod inspect;
mod load;
mod operations;
mod row;
mod settle;
mod slice;
mod store;
mod text;
mod waiting;
mod write;

pub use error::RowError;
pub use gauges::Gauges;
pub use inspect::{CHECKS, RequestInspector};
pub use load::Queue;
pub use slice::{DeferredEvent, Meeting, SliceTransaction};
pub use store::PgStore;
pub use waiting::DeferredRow;

pub(super) use error::is_data_fault;

use sqlx::migrate::Migrator;

/// The migrations that this program carries.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations/broker-gateway");
