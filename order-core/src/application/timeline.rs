//! Rows of three processes in one order of time. Each time is by the clock of its process, so two rows
//! of different processes may stand the wrong way round by as much as their clocks differ.

use super::explain::{OwnRow, RefusalRecord};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Whose row it is.
    pub process: &'static str,
    /// What kind of row.
    pub kind: &'static str,
    /// The row.
    pub data: Value,
}

/// Where the gateway's rows are, which of their times counts, and what they are called.
const GATEWAY: [(&str, &str, &str); 7] = [
    ("/story/attempts", "claimed_at", "attempt"),
    ("/story/lookups", "began_at", "lookup"),
    ("/story/cancels", "claimed_at", "cancel_attempt"),
    ("/story/evidence", "at", "evidence"),
    ("/story/transitions", "at", "transition"),
    ("/story/approvals", "approved_at", "approval"),
    ("/log", "at", "event"),
];

/// The same of the receiver.
const RECEIVER: [(&str, &str, &str); 3] =
    [("/facts", "stored_at", "raw_event"), ("/log", "at", "event"), ("/suspects", "seen_at", "suspect")];

/// Puts everything in the order of time. Rows of one process with one time keep their order.
#[must_use]
pub fn timeline(
    own: Vec<OwnRow>,
    refusals: &[RefusalRecord],
    gateway: Option<&Value>,
    receiver: Option<&Value>,
) -> Vec<Entry> {
    let mut entries: Vec<Entry> = own
        .into_iter()
        .map(|row| Entry { at: row.at, process: "order-server", kind: row.kind, data: row.data })
        .collect();
    for refusal in refusals {
        let data = serde_json::to_value(refusal).unwrap_or_default();
        entries.push(Entry { at: refusal.refused_at, process: "order-server", kind: "refusal", data });
    }
    for (part, process, places) in
        [(gateway, "broker-gateway", GATEWAY.as_slice()), (receiver, "fill-receiver", RECEIVER.as_slice())]
    {
        let Some(part) = part else { continue };
        for (pointer, time, kind) in places {
            let rows = part.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
            entries.extend(rows.map(|row| Entry { at: time_of(row, time), process, kind, data: row.clone() }));
        }
    }
    entries.sort_by_key(|entry| entry.at);
    entries
}

/// A row whose time cannot be read is shown first, not left out.
fn time_of(row: &Value, field: &str) -> OffsetDateTime {
    let text = row.get(field).and_then(Value::as_str).unwrap_or_default();
    OffsetDateTime::parse(text, &Rfc3339).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
