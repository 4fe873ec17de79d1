//! Who should hold what. Pure: rows in, wishes out; the database has the last word.

use super::ability::Ability;
use contracts::Partition;
use uuid::Uuid;

/// One row of the leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) partition: Partition,
    pub(super) holder: Option<Uuid>,
    /// Whether the lease lasts still.
    pub(super) lasts: bool,
}

/// A copy that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Living {
    pub(super) id: Uuid,
    pub(super) ability: Ability,
}

/// What a copy wishes to change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Held, and to be renewed.
    pub(super) keep: Vec<Partition>,
    /// Held beyond the fair share.
    pub(super) release: Vec<Partition>,
    /// Nobody's, and to be taken.
    pub(super) claim: Vec<Partition>,
}

/// Works out what one of the living copies (in one order for all, `me` among them) should do. Those
/// that are unable have no share, unless all are; what such a one holds it keeps until it `gives_up`.
pub(super) fn plan(me: Uuid, copies: &[Living], gives_up: bool, rows: &[Row]) -> Plan {
    let able: Vec<Uuid> = copies.iter().filter(|copy| copy.ability != Ability::Unable).map(|copy| copy.id).collect();
    let all = || copies.iter().map(|copy| copy.id).collect();
    let nobody_is_able = able.is_empty();
    let sharing: Vec<Uuid> = if nobody_is_able { all() } else { able };
    let Some(rank) = sharing.iter().position(|copy| *copy == me) else {
        let mine = rows.iter().filter(|row| row.holder == Some(me)).map(|row| row.partition).collect();
        let (keep, release) = if gives_up { (Vec::new(), mine) } else { (mine, Vec::new()) };
        return Plan { keep, release, claim: Vec::new() };
    };
    let count = sharing.len().max(1);
    let share = rows.len() / count + usize::from(rank < rows.len() % count);
    let mine = rows.iter().filter(|row| row.holder == Some(me)).map(|row| row.partition);
    let (mut keep, mut release) = (Vec::new(), Vec::new());
    for partition in mine {
        // Where nobody is able, what a copy gave up must not go back to it.
        if nobody_is_able || keep.len() < share { keep.push(partition) } else { release.push(partition) }
    }
    let is_free = |row: &&Row| row.holder != Some(me) && (row.holder.is_none() || !row.lasts);
    let mut free: Vec<Partition> = rows.iter().filter(is_free).map(|row| row.partition).collect();
    if !free.is_empty() {
        // Copies that look at the same moment begin at different places.
        let start = rank * free.len() / count % free.len();
        free.rotate_left(start);
    }
    free.truncate(share.saturating_sub(keep.len()));
    Plan { keep, release, claim: free }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(holders: &[Option<u8>], dead: &[u8]) -> Vec<Row> {
        Partition::all()
            .zip(holders)
            .map(|(partition, holder)| Row {
                partition,
                holder: holder.map(id),
                lasts: holder.is_some_and(|holder| !dead.contains(&holder)),
            })
            .collect()
    }

    fn id(n: u8) -> Uuid {
        Uuid::from_u128(u128::from(n))
    }

    fn able(copies: &[Uuid]) -> Vec<Living> {
        copies.iter().map(|id| Living { id: *id, ability: Ability::Able }).collect()
    }

    /// What the database makes of a plan.
    fn carry_out(me: Uuid, plan: &Plan, rows: &mut [Row]) {
        for row in rows {
            if plan.release.contains(&row.partition) {
                row.holder = None;
            } else if plan.claim.contains(&row.partition) {
                assert!(row.holder.is_none() || !row.lasts, "took a lease that lasts");
                (row.holder, row.lasts) = (Some(me), true);
            } else if plan.keep.contains(&row.partition) {
                row.lasts = true;
            }
        }
    }

    fn held(rows: &[Row], copy: Uuid) -> usize {
        rows.iter().filter(|row| row.holder == Some(copy) && row.lasts).count()
    }

    #[test]
    fn a_copy_alone_takes_everything_and_gives_half_to_the_next() {
        let mut rows = rows(&[None; 16], &[]);
        let first = plan(id(1), &able(&[id(1)]), false, &rows);
        carry_out(id(1), &first, &mut rows);
        assert_eq!(held(&rows, id(1)), 16);
        for copy in [2, 1, 2] {
            let next = plan(id(copy), &able(&[id(1), id(2)]), false, &rows);
            carry_out(id(copy), &next, &mut rows);
        }
        assert_eq!((held(&rows, id(1)), held(&rows, id(2))), (8, 8));
    }

    proptest! {
        #[test]
        fn living_copies_end_with_fair_shares_whoever_died(
            holders in prop::collection::vec(prop::option::of(1_u8..8), 16),
            living in prop::collection::btree_set(1_u8..8, 1..7),
        ) {
            let dead: Vec<u8> = (1..8).filter(|copy| !living.contains(copy)).collect();
            let copies: Vec<Uuid> = living.iter().copied().map(id).collect();
            let mut rows = rows(&holders, &dead);
            for _round in 0..3 {
                for copy in &copies {
                    let plan = plan(*copy, &able(&copies), false, &rows);
                    carry_out(*copy, &plan, &mut rows);
                }
            }
            for copy in &copies {
                let share = held(&rows, *copy);
                prop_assert!(share >= 16 / copies.len() && share <= 16_usize.div_ceil(copies.len()), "{share}");
            }
            prop_assert!(rows.iter().all(|row| row.lasts), "a partition has no living holder");
        }

        #[test]
        fn those_that_can_share_what_those_that_cannot_gave_up_and_nothing_moves_when_none_can(
            abilities in prop::collection::vec(
                prop_oneof![Just(Ability::Able), Just(Ability::Troubled), Just(Ability::Unable)], 1..6
            ),
            holders in prop::collection::vec(1_usize..6, 16),
        ) {
            let everyone: Vec<Uuid> = (1_u8..).take(abilities.len()).map(id).collect();
            let copies: Vec<Living> =
                everyone.iter().zip(&abilities).map(|(id, ability)| Living { id: *id, ability: *ability }).collect();
            let holders: Vec<Option<u8>> =
                holders.iter().map(|holder| u8::try_from(1 + holder % abilities.len()).ok()).collect();
            let mut rows = rows(&holders, &[]);
            let before = rows.clone();
            for _round in 0..3 {
                for copy in &copies {
                    let plan = plan(copy.id, &copies, copy.ability == Ability::Unable, &rows);
                    carry_out(copy.id, &plan, &mut rows);
                }
            }
            prop_assert!(rows.iter().all(|row| row.lasts && row.holder.is_some()));
            let sharing = abilities.iter().filter(|ability| **ability != Ability::Unable).count();
            if sharing == 0 {
                prop_assert_eq!(&rows, &before);
            }
            for copy in copies.iter().filter(|_| sharing > 0) {
                let share = held(&rows, copy.id);
                let unable = copy.ability == Ability::Unable;
                prop_assert!(if unable { share == 0 } else { share >= 16 / sharing }, "{share}");
            }
        }

        #[test]
        fn nothing_moves_between_copies_that_have_their_shares(count in 1_usize..7) {
            let copies: Vec<Uuid> = (0..count).map(|n| id(u8::try_from(n).unwrap())).collect();
            let mut rows = rows(&[None; 16], &[]);
            for copy in &copies {
                let plan = plan(*copy, &able(&copies), false, &rows);
                carry_out(*copy, &plan, &mut rows);
            }
            for copy in &copies {
                let plan = plan(*copy, &able(&copies), false, &rows);
                prop_assert!(plan.release.is_empty() && plan.claim.is_empty());
            }
        }
    }
}
