//! The id of an update: a ULID that is also its place.

use super::update::UpdateMark;
use contracts::AccountId;
use std::fmt;
use ulid::Ulid;

const SEQ_BITS: u32 = 50;
const TAG_BITS: u32 = 30;
const SEQ_MASK: u128 = (1 << SEQ_BITS) - 1;
const TAG_MASK: u128 = (1 << TAG_BITS) - 1;

/// The id of an update. Its 48 time bits are the update's milliseconds, which never go back within
/// an account; of its 80 low bits the upper 30 are a tag of the account and the lower 50, which are
/// the last ten characters, the account's own number of it. So ids sort as the updates were
/// committed, and the low 80 bits grow by exactly one from each update to the next: whoever reads
/// them knows that none is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpdateId(Ulid);

impl UpdateId {
    /// The id of an account's update.
    #[must_use]
    pub fn new(account: AccountId, mark: UpdateMark) -> Self {
        let millis = u128::try_from(mark.at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
        let seq = u128::try_from(mark.seq).unwrap_or_default();
        Self(Ulid((millis << (SEQ_BITS + TAG_BITS)) | (tag(account) << SEQ_BITS) | (seq & SEQ_MASK)))
    }

    /// Reads a text of 26 characters; none when it is no ULID.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Ulid::from_string(text).ok().map(Self)
    }

    /// Whether it stands before every update: the id of zeros.
    #[must_use]
    pub const fn is_start(self) -> bool {
        self.0.0 == 0
    }

    /// The account's own number of it.
    #[must_use]
    pub fn seq(self) -> i64 {
        i64::try_from(self.0.0 & SEQ_MASK).unwrap_or_default()
    }

    /// Its time, in milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0.timestamp_ms()
    }
}

fn tag(account: AccountId) -> u128 {
    account.as_uuid().as_u128() & TAG_MASK
}

impl fmt::Display for UpdateId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::{Duration, OffsetDateTime};
    use uuid::Uuid;

    proptest! {
        #[test]
        fn ids_sort_as_updates_were_written_and_their_low_bits_count_by_one(
            account in any::<u128>(),
            steps in prop::collection::vec(-5_000i64..5_000, 1..50),
        ) {
            let account = AccountId::new(Uuid::from_u128(account));
            let mut now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
            let mut mark = UpdateMark::START;
            let mut last: Option<UpdateId> = None;
            for step in steps {
                now += Duration::milliseconds(step);
                mark = mark.next(now);
                let id = UpdateId::new(account, mark);
                prop_assert_eq!((id.seq(), UpdateId::parse(&id.to_string())), (mark.seq, Some(id)));
                if let Some(last) = last {
                    prop_assert!(id > last && id.to_string() > last.to_string());
                    let low = |id: UpdateId| id.0.0 & ((1 << 80) - 1);
                    prop_assert_eq!(low(id), low(last) + 1);
                }
                last = Some(id);
            }
        }
    }

    #[test]
    fn the_last_ten_characters_are_the_number() {
        let mark = UpdateMark { seq: 33, at: OffsetDateTime::UNIX_EPOCH };
        let id = UpdateId::new(AccountId::new(Uuid::from_u128(u128::MAX)), mark);
        assert_eq!(id.to_string(), "0000000000ZZZZZZ0000000011");
        assert!(UpdateId::parse("00000000000000000000000000").unwrap().is_start());
        assert_eq!(UpdateId::parse("nonsense"), None);
    }
}
