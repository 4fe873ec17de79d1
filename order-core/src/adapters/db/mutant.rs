//! The order server without its version check: only for the proof that the tests of the account lock
//! can fail (`make lock-proof`). Compiled with `--cfg oor_without_version_check` alone, never into an
//! optimised program.

use super::failed;
use crate::application::store::StoreError;
use sqlx::PgConnection;
use uuid::Uuid;

#[cfg(not(debug_assertions))]
compile_error!("a program without the version check loses money: it is only for tests");

/// The versions that the rows have now, whatever was read.
pub(super) async fn versions_now(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<i64>, StoreError> {
    // Not a macro: the committed query data are those of the real program.
    sqlx::query_scalar(
        "select a.version from unnest($1::uuid[]) with ordinality w (id, n) join accounts a on a.id = w.id order by w.n",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
    .map_err(failed("read versions"))
}
