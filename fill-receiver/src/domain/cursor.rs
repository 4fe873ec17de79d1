//! Where a stream reader resumes, and how far it may move the stored cursor.
//!
//! The cursor never passes a hole. It moves only over events that this reader stored, only forward,
//! and only from the value that the reader itself last wrote or read. Because events of one
//! millisecond have random order, and a broker may publish an older event late, a reader resumes
//! some minutes before the cursor and lets the identities drop what is already there.

use std::fmt;
use thiserror::Error;
use time::OffsetDateTime;
use ulid::Ulid;

/// A position in the broker's stream: a ULID. Its first 48 bits are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(Ulid);

/// The largest time that a ULID holds.
const UNIX_MS_MAX: u64 = (1 << 48) - 1;

/// The text is not a ULID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a ULID")]
pub struct NotACursor;

impl Cursor {
    /// Reads a position from the broker's text.
    ///
    /// # Errors
    /// [`NotACursor`] when it is not the text of a ULID (an overlong number included).
    pub fn parse(text: &str) -> Result<Self, NotACursor> {
        let ulid = Ulid::from_string(text).map_err(|_| NotACursor)?;
        if ulid.to_string().eq_ignore_ascii_case(text) { Ok(Self(ulid)) } else { Err(NotACursor) }
    }

    /// The first position of a moment.
    #[must_use]
    pub fn at(moment: OffsetDateTime) -> Self {
        let milliseconds = u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        Self(Ulid::from_parts(milliseconds, 0))
    }

    /// The first position `overlap_ms` earlier.
    #[must_use]
    pub fn rewound(self, overlap_ms: u64) -> Self {
        Self(Ulid::from_parts(self.unix_ms().saturating_sub(overlap_ms), 0))
    }

    /// The first position `ms` later.
    #[must_use]
    pub fn advanced(self, ms: u64) -> Self {
        Self(Ulid::from_parts(self.unix_ms().saturating_add(ms).min(UNIX_MS_MAX), 0))
    }

    /// Its time, in milliseconds since 1970.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        self.0.timestamp_ms()
    }

    /// Its time.
    #[must_use]
    pub fn moment(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.unix_ms()) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string())
    }
}

/// A change of the stored cursor, made by compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorMove {
    /// What must be stored now.
    pub from: Cursor,
    /// What is stored after. The same as `from` where the batch holds nothing newer.
    pub to: Cursor,
}

impl CursorMove {
    /// Whether anything has to be written.
    #[must_use]
    pub fn is_still(self) -> bool {
        self.from == self.to
    }
}

/// One reader's view of the stored cursor over the life of one connection.
#[derive(Debug, Clone, Copy)]
pub struct ReaderPosition {
    written: Cursor,
    stopped: bool,
}

/// The reader has met a hole or lost the cursor: it stores nothing more from its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("reader has stopped")]
pub struct ReaderStopped;

impl ReaderPosition {
    /// A reader that starts from the cursor as stored.
    #[must_use]
    pub const fn start(stored: Cursor) -> Self {
        Self { written: stored, stopped: false }
    }

    /// What this reader last read or wrote.
    #[must_use]
    pub const fn written(&self) -> Cursor {
        self.written
    }

    /// How the cursor moves when events at these positions are stored.
    ///
    /// A position more than `lead_max_ms` ahead of the clock does not move it: following one wrong
    /// position into the future would skip everything until then.
    ///
    /// # Errors
    /// [`ReaderStopped`] after [`Self::stop`].
    pub fn plan(
        &self,
        positions: impl IntoIterator<Item = Cursor>,
        now: OffsetDateTime,
        lead_max_ms: u64,
    ) -> Result<CursorMove, ReaderStopped> {
        if self.stopped {
            return Err(ReaderStopped);
        }
        let limit = Cursor::at(now).unix_ms().saturating_add(lead_max_ms);
        let newest = positions.into_iter().filter(|position| position.unix_ms() <= limit).max();
        let to = newest.map_or(self.written, |newest| newest.max(self.written));
        Ok(CursorMove { from: self.written, to })
    }

    /// The move is committed.
    pub fn committed(&mut self, moved: CursorMove) {
        self.written = moved.to;
    }

    /// Nothing more may be stored from this connection.
    pub fn stop(&mut self) {
        self.stopped = true;
    }
}

/// What is known about a stream when a reader wants to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeFacts {
    /// The stored cursor.
    pub cursor: Cursor,
    /// When the stream was last known to be whole and alive.
    pub alive_at: OffsetDateTime,
    /// The clock.
    pub now: OffsetDateTime,
    /// How far to rewind.
    pub overlap_ms: u64,
    /// How far back the broker replays; none where it does not say.
    pub replay_window_ms: Option<u64>,
}

impl ResumeFacts {
    /// Where to resume, best first. All but the first are for a broker that refuses the one before
    /// because it lies too far back; the last is now.
    #[must_use]
    pub fn candidates(&self) -> Vec<Cursor> {
        let now = Cursor::at(self.now);
        let mut found = vec![self.cursor.rewound(self.overlap_ms)];
        let later = [
            Some(self.cursor.rewound(self.overlap_ms / 10)),
            Some(self.cursor),
            Some(Cursor::at(self.alive_at).rewound(self.overlap_ms)),
            self.replay_window_ms.map(|window| now.rewound(window.saturating_sub(self.overlap_ms))),
            Some(now.rewound(self.overlap_ms)),
            Some(now),
        ];
        for candidate in later.into_iter().flatten() {
            if found.last().is_none_or(|last| candidate > *last) {
                found.push(candidate);
            }
        }
        found
    }

    /// The stretch that nobody has seen, nor will, when the broker replays from `since` (and, where
    /// it says how far it replays, not from before that). None where the stream was whole until then.
    #[must_use]
    pub fn unproven_until(&self, since: Cursor) -> Option<(Cursor, Cursor)> {
        let seen = self.cursor.max(Cursor::at(self.alive_at)).rewound(self.overlap_ms);
        let replayed = match self.replay_window_ms {
            Some(window) => since.max(Cursor::at(self.now).rewound(window)),
            None => since,
        };
        (replayed > seen).then_some((seen, replayed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-04-12 13:30:00 UTC);
    const MINUTE: u64 = 60_000;

    fn ulid(ms_from_now: i64, random: u128) -> Cursor {
        Cursor(Ulid::from_parts(Cursor::at(NOW).unix_ms().checked_add_signed(ms_from_now).unwrap(), random))
    }

    #[test]
    fn only_the_text_of_a_ulid_is_a_cursor() {
        let text = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert_eq!(Cursor::parse(text).unwrap().to_string(), text);
        assert_eq!(Cursor::parse(&text.to_lowercase()).unwrap().to_string(), text);
        for bad in
            ["", "116516", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01ARZ3NDEKTSV4RRFFQ69G5FAU!", "01ARZ3NDEKTSV4RRFFQ69G5FA"]
        {
            assert_eq!(Cursor::parse(bad), Err(NotACursor), "{bad}");
        }
    }

    #[test]
    fn siblings_of_the_cursors_millisecond_lie_after_the_resume_point() {
        let cursor = ulid(0, 500);
        let resume = cursor.rewound(2 * MINUTE);
        assert!(resume < ulid(0, 1) && resume < ulid(-1, 0) && resume < ulid(-119_999, 0));
    }

    #[test]
    fn the_cursor_moves_to_the_newest_and_never_back() {
        let mut reader = ReaderPosition::start(ulid(0, 5));
        let moved = reader.plan([ulid(3, 1), ulid(1, 9)], NOW, MINUTE).unwrap();
        assert_eq!(moved, CursorMove { from: ulid(0, 5), to: ulid(3, 1) });
        reader.committed(moved);
        let replayed = reader.plan([ulid(-500, 1)], NOW, MINUTE).unwrap();
        assert!(replayed.is_still());
        assert_eq!(replayed.from, ulid(3, 1));
    }

    #[test]
    fn a_position_far_in_the_future_does_not_drag_the_cursor_along() {
        let reader = ReaderPosition::start(ulid(0, 0));
        let moved = reader.plan([ulid(1, 0), ulid(3_600_000, 0)], NOW, MINUTE).unwrap();
        assert_eq!(moved.to, ulid(1, 0));
    }

    #[test]
    fn a_stopped_reader_never_moves_the_cursor() {
        let mut reader = ReaderPosition::start(ulid(0, 0));
        reader.stop();
        assert_eq!(reader.plan([ulid(1, 0)], NOW, MINUTE), Err(ReaderStopped));
    }

    fn facts(cursor_age_min: i64, alive_age_min: i64) -> ResumeFacts {
        ResumeFacts {
            cursor: Cursor::at(NOW - Duration::minutes(cursor_age_min)),
            alive_at: NOW - Duration::minutes(alive_age_min),
            now: NOW,
            overlap_ms: 2 * MINUTE,
            replay_window_ms: Some(60 * MINUTE),
        }
    }

    #[test]
    fn an_idle_night_on_a_live_stream_leaves_nothing_unproven() {
        let facts = facts(600, 1);
        let ages: Vec<u64> =
            facts.candidates().iter().map(|c| (Cursor::at(NOW).unix_ms() - c.unix_ms()) / MINUTE).collect();
        assert_eq!(ages, [602, 600, 600, 3, 2, 0]);
        assert_eq!(facts.unproven_until(facts.candidates()[3]), None);
    }

    #[test]
    fn an_outage_longer_than_the_replay_names_the_unseen_stretch() {
        let facts = facts(600, 599);
        let candidates = facts.candidates();
        let since = candidates[3];
        assert_eq!(since, Cursor::at(NOW - Duration::minutes(58)));
        let (from, until) = facts.unproven_until(since).unwrap();
        assert_eq!((from, until), (Cursor::at(NOW - Duration::minutes(601)), since));
        let (_, until) = facts.unproven_until(candidates[0]).unwrap();
        assert_eq!(until, Cursor::at(NOW - Duration::minutes(60)), "the broker says that it replays no further");
    }
}
