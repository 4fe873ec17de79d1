//! Kill points: named moments at which a drill lets a process die by SIGKILL.
//!
//! They exist in builds with `--cfg oor_kill_points` alone; anywhere else [`kill_point!`](crate::kill_point) checks its
//! name and compiles to nothing. In such a build a process dies at the Nth pass of the point that
//! [`KILL_AT`] names, after it has left evidence in the file that [`KILL_EVIDENCE`] names.

#[cfg(any(oor_kill_points, test))]
mod armed;
#[cfg(oor_kill_points)]
mod death;

#[cfg(oor_kill_points)]
pub use death::pass;

#[cfg(all(oor_kill_points, not(debug_assertions)))]
compile_error!("kill points are for drills: not for optimised builds");

/// The variable that arms a point: `NAME:N` lets the process die at the Nth pass of it, from 1.
pub const KILL_AT: &str = "OOR_KILL_AT";

/// The variable that names the file to which a process appends a line before it dies.
pub const KILL_EVIDENCE: &str = "OOR_KILL_EVIDENCE";

/// Every point, as `PROGRAM.MOMENT`.
pub const POINTS: [&str; 20] = [
    // A batch of commands: nothing is done, the accounts are locked, all is written and not committed, committed and
    // not on the bus, and committed but not answered.
    "order-server.before-lock",
    "order-server.after-lock",
    "order-server.before-commit",
    "order-server.before-publish",
    "order-server.before-answer",
    // Events of the gateway and the receiver: before their commit, and after it, before the position is reported.
    "order-server.before-facts-commit",
    "order-server.after-facts-commit",
    // Orders and evidence: before their commit, and after it, before the position is reported.
    "broker-gateway.before-intake-commit",
    "broker-gateway.after-intake-commit",
    // A new order at the broker: claimed without an attempt row, the row committed and the socket not touched, the
    // reply read, the reply written and not committed, and committed but not on the bus.
    "broker-gateway.before-attempt",
    "broker-gateway.before-socket",
    "broker-gateway.after-socket",
    "broker-gateway.before-reply-commit",
    "broker-gateway.before-publish",
    // Events of the stream: before their commit, after it (the cursor is in it), and before the bus, where pushes pass
    // too.
    "fill-receiver.before-commit",
    "fill-receiver.after-commit",
    "fill-receiver.before-publish",
    // Pushes: before their commit, after it, and before the answer that acknowledges them.
    "fill-receiver.before-push-commit",
    "fill-receiver.after-push-commit",
    "fill-receiver.before-push-answer",
];

/// Whether there is a point of that name; asked by the compiler at every point, in every build.
#[must_use]
pub const fn is_known(name: &str) -> bool {
    let mut rest: &[&str] = &POINTS;
    while let [first, others @ ..] = rest {
        if same(first.as_bytes(), name.as_bytes()) {
            return true;
        }
        rest = others;
    }
    false
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    match (a, b) {
        ([], []) => true,
        ([x, a @ ..], [y, b @ ..]) => *x == *y && same(a, b),
        _ => false,
    }
}

/// Marks a moment at which a drill may let the process die; with `if`, only where that holds. The name is one of
/// [`POINTS`](crate::killpoint::POINTS).
#[macro_export]
macro_rules! kill_point {
    ($name:literal) => {
        $crate::kill_point!($name, if true)
    };
    ($name:literal, if $holds:expr) => {{
        const _: () = assert!($crate::killpoint::is_known($name));
        #[cfg(oor_kill_points)]
        if $holds {
            $crate::killpoint::pass($name);
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_point_is_known_by_its_whole_name_alone_and_each_name_is_one_point() {
        assert!(POINTS.iter().all(|name| is_known(name)));
        for other in ["", "order-server", "order-server.before", "order-server.before-locks", "x.before-lock"] {
            assert!(!is_known(other), "{other}");
        }
        assert_eq!(POINTS.iter().collect::<BTreeSet<_>>().len(), POINTS.len());
    }
}
