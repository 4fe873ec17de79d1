//! `stack up` and its commands, as separate processes, with stand-ins for the services.

use crate::stack_support::{Checkout, exists, runs, send, until};

fn redis(url: &str, words: &[&str]) -> Option<String> {
    let mut connection = ::redis::Client::open(url).unwrap().get_connection().ok()?;
    let (name, arguments) = words.split_first().unwrap();
    ::redis::cmd(name).arg(arguments).query::<Option<String>>(&mut connection).unwrap()
}

#[test]
fn a_killed_child_is_reaped_and_started_again_on_its_old_port() {
    let checkout = Checkout::new();
    let up = checkout.up();
    assert!(up.pids().iter().all(|pid| runs(pid)));
    assert_eq!(up.value("PID_STACK"), up.pid());
    assert_eq!(up.value("APCA_API_KEY_ID"), "k'1");

    let (pid, url) = (up.value("PID_ORDER_SERVER"), up.value("OPS_URL"));
    send(&pid, "KILL");
    until("the dead child is reaped", || !exists(&pid));
    until("stack.env knows", || up.value("PID_ORDER_SERVER").is_empty());
    until("the stack says so", || up.said().contains(&format!("order-server (pid {pid}) ended: signal SIGKILL")));
    assert!(runs(&up.value("PID_BROKER_GATEWAY")), "the others go on");

    let started = checkout.run(&["start", "order-server"]);
    assert!(started.status.success(), "{started:?}");
    assert!(runs(&up.value("PID_ORDER_SERVER")));
    assert_ne!(up.value("PID_ORDER_SERVER"), pid);
    assert_eq!(up.value("OPS_URL"), url);
}

#[test]
fn redis_starts_again_empty_and_postgres_with_its_data() {
    let checkout = Checkout::new();
    let up = checkout.up();
    let url = up.value("REDIS_URL");
    redis(&url, &["SET", "a", "b"]);
    assert_eq!(redis(&url, &["GET", "a"]).as_deref(), Some("b"));
    for name in ["redis", "postgres"] {
        let pid = up.value(&format!("PID_{}", name.to_uppercase()));
        send(&pid, "KILL");
        until("the server is gone", || !exists(&pid));
        until("stack.env knows", || up.value(&format!("PID_{}", name.to_uppercase())).is_empty());
        let started = checkout.run(&["start", name]);
        assert!(started.status.success(), "{started:?}");
    }
    assert_eq!(redis(&url, &["GET", "a"]), None);
    let database = up.value("ORDER_CORE_DATABASE_URL");
    let select = std::process::Command::new("psql").args(["-qtAX", &database, "-c", "select current_user"]).output();
    assert_eq!(String::from_utf8(select.unwrap().stdout).unwrap().trim(), "order_core");
}

#[test]
fn requests_that_make_no_sense_are_refused_by_name() {
    let checkout = Checkout::new();
    let refused = |arguments: &[&str]| {
        let output = checkout.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["start", "order-server"]).contains("no stack is running"));
    assert!(refused(&["stop"]).contains("no stack is running"));
    let up = checkout.up();
    let pid = up.value("PID_ORDER_SERVER");
    assert!(refused(&["start", "orderserver"]).contains("the stack has: postgres, redis, broker-sim, order-server"));
    assert!(refused(&["start", "order-server"]).contains(&format!("order-server is already running (pid {pid})")));
    let second = refused(&["up", "--bin", checkout.root.join("bin").to_str().unwrap()]);
    assert!(second.contains("already running") && second.contains(&up.pid()), "{second}");
    assert!(up.pids().iter().all(|pid| runs(pid)), "the first stack is left alone");
}

#[test]
fn a_killed_stack_leaves_no_process() {
    let checkout = Checkout::new();
    let mut up = checkout.up();
    let pids = up.pids();
    up.signal("KILL");
    up.wait();
    until("every child is gone", || !pids.iter().any(|pid| runs(pid)));
    // What it left behind does not stand in the way of the next one.
    let again = checkout.up();
    assert!(again.pids().iter().all(|pid| runs(pid)));
}

#[test]
fn a_stopped_stack_ends_every_process_and_takes_its_addresses_back() {
    for stop in ["TERM", "INT", "HUP", "stop"] {
        let checkout = Checkout::new();
        let mut up = checkout.up();
        let pids = up.pids();
        if stop == "stop" {
            let stopped = checkout.run(&["stop"]);
            assert!(stopped.status.success(), "{stopped:?}");
        } else {
            up.signal(stop);
        }
        assert!(up.wait().success(), "{stop}: {}", up.said());
        assert!(!pids.iter().any(|pid| exists(pid)), "{stop}: all are reaped");
        assert!(!checkout.root.join(".run/stack.env").exists());
    }
}

#[test]
fn a_service_that_does_not_start_ends_the_stack_and_shows_its_log() {
    let checkout = Checkout::new();
    let script = "#!/bin/sh\n[ \"$1\" = migrate ] && exit 0\necho 'no such luck'\nexit 3\n";
    std::fs::write(checkout.root.join("bin/broker-gateway"), script).unwrap();
    let bin = checkout.root.join("bin");
    let output = checkout.run(&["up", "--bin", bin.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("broker-gateway ended before it was ready (exit code 3)"), "{text}");
    assert!(text.contains("no such luck"), "{text}");
}
