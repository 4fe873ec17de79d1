//! The schema that this program works on.

use sqlx::migrate::Migrator;

/// The migrations that this program carries.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations/order-core");
