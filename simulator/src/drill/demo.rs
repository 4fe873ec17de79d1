//! The demonstration: a few hundred orders, each engine process killed once, a table and a comparison.

use std::fmt::Write;
use std::time::Duration;

use tokio::time::sleep;

use super::check::AccountView;
use super::exercise::Exercise;
use super::load::{Load, LoadOptions};
use super::outcome::Outcome;
use super::trader::Placed;
use crate::stack::{ProcessName, StackError};

/// How long a killed process stays dead: long enough that orders run into it.
const DEAD_FOR: Duration = Duration::from_millis(700);
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// Orders between two lines of progress.
const SAY_EVERY: usize = 50;

/// Places the orders, kills each engine process once meanwhile, and settles. Returns the outcome and the table.
///
/// # Errors
/// When a process cannot be killed or started.
pub async fn run(
    exercise: &Exercise,
    load: LoadOptions,
    settle_limit: Duration,
) -> Result<(Outcome, String), StackError> {
    let orders = load.orders_max.unwrap_or(0);
    let load = Load::start(&exercise.traders, load);
    let progress = load.progress().clone();
    let kills = async {
        for (place, name) in ProcessName::ENGINE.into_iter().enumerate() {
            // After a fifth, two fifths and three fifths of the orders.
            let at = orders * (place + 1) / 5;
            while progress.answered() < at {
                sleep(LOOK_PAUSE).await;
            }
            exercise.say(&format!("{} of {orders} orders answered; killing {name}", progress.answered()));
            exercise.kill_and_restart(name, DEAD_FOR).await?;
            exercise.stack.wait_ready(name).await?;
        }
        Ok::<(), StackError>(())
    };
    let told = async {
        let mut next = SAY_EVERY;
        while progress.answered() < orders {
            if progress.answered() >= next {
                exercise.say(&format!("{next} of {orders} orders answered, {} accepted", progress.accepted()));
                next += SAY_EVERY;
            }
            sleep(LOOK_PAUSE).await;
        }
    };
    let (posted, kills, ()) = tokio::join!(load.finish(), kills, told);
    kills?;
    exercise.say(&format!(
        "all {orders} orders answered, {} accepted, {} needed a second try; waiting until all is quiet",
        progress.accepted(),
        progress.retried()
    ));
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    let tally = outcome.tally();
    outcome.require(
        tally.filled > 0 && tally.canceled > 0 && tally.rejected > 0,
        "the demo must fill, cancel and refuse some orders, or it has shown nothing",
    );
    outcome.note("retried", progress.retried());
    let table = match exercise.views(&posted).await {
        Ok(views) => table(&views),
        Err(error) => {
            outcome.require(false, &format!("the accounts could not be read: {error}"));
            String::new()
        }
    };
    Ok((outcome, table))
}

/// Orders, fills, cash and positions of each account.
fn table(views: &[AccountView]) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; 9]| {
        let [account, posted, accepted, refused, filled, canceled, shares, cash, positions] = cells;
        // Writing to a string does not fail.
        let _never = writeln!(
            text,
            "{account:>7}  {posted:>6}  {accepted:>8}  {refused:>7}  {filled:>6}  {canceled:>8}  {shares:>12}  {cash:>16}  {positions}"
        );
    };
    line(["account", "posted", "accepted", "refused", "filled", "canceled", "shares", "cash USD", "positions"]);
    for (index, view) in views.iter().enumerate() {
        let accepted = view.posted.iter().filter(|(_, placed)| matches!(placed, Placed::Accepted(_))).count();
        let refused = view.posted.iter().filter(|(_, placed)| matches!(placed, Placed::Refused { .. })).count();
        let in_status =
            |word: &str| view.orders.iter().filter(|order| order.status.as_str() == word).count().to_string();
        let shares: rust_decimal::Decimal = view.orders.iter().map(|order| order.filled_qty).sum();
        let positions: Vec<String> =
            view.positions.iter().map(|position| format!("{} {}", position.symbol, position.qty.normalize())).collect();
        line([
            &(index + 1).to_string(),
            &view.posted.len().to_string(),
            &accepted.to_string(),
            &refused.to_string(),
            &in_status("filled"),
            &in_status("canceled"),
            &shares.normalize().to_string(),
            &view.account.cash.to_string(),
            &positions.join(", "),
        ]);
    }
    text
}
