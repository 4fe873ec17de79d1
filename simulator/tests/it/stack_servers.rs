//! `stack servers -- COMMAND`: private servers for the length of a command.

use std::process::Stdio;

use crate::stack_support::{Checkout, KillOnDrop, runs, until};

#[test]
fn the_command_gets_both_servers_and_its_exit_code_is_passed_on() {
    let checkout = Checkout::new();
    let script = "psql -qtAX \"$TEST_DATABASE_URL\" -c 'show fsync; show synchronous_commit' && redis-cli -u \"$REDIS_URL\" ping; exit 7";
    let output = checkout.run(&["servers", "--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(7));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), ["on", "on", "PONG"]);
}

#[test]
fn killed_servers_take_their_command_and_themselves_along() {
    let checkout = Checkout::new();
    let pids = checkout.root.join("pids");
    let script = format!(
        "redis-cli -u \"$REDIS_URL\" info server | sed -n 's/process_id:\\([0-9]*\\).*/\\1/p' > '{0}.part'; \
         head -1 '{1}/.data/servers/pg/postmaster.pid' >> '{0}.part'; echo $$ >> '{0}.part'; \
         mv '{0}.part' '{0}'; exec sleep 600",
        pids.display(),
        checkout.root.display()
    );
    let child = checkout.stack().args(["servers", "--", "sh", "-c", &script]).stdout(Stdio::null()).spawn().unwrap();
    let child = KillOnDrop(child);
    until("the command runs", || pids.exists());
    let pids: Vec<String> = std::fs::read_to_string(&pids).unwrap().lines().map(str::to_owned).collect();
    assert!(pids.len() == 3 && pids.iter().all(|pid| runs(pid)), "{pids:?}");
    drop(child);
    until("all are gone", || !pids.iter().any(|pid| runs(pid)));
}
