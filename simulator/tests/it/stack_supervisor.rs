//! The supervisor with ordinary programs as children.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use simulator::stack::{COPIES_MAX, ChildSpec, ProcessName, StackError, Supervisor};

use crate::stack_support::{LIMIT, exists, runs};

fn sleeper() -> ChildSpec {
    ChildSpec::new("sleep", "/", PathBuf::from("/dev/null")).args(["600"])
}

fn supervisor() -> (Supervisor, Arc<Mutex<Vec<String>>>) {
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let lines = said.clone();
    let announce = Arc::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()));
    (Supervisor::start(announce, Box::new(|_| ())).unwrap(), said)
}

#[tokio::test]
async fn a_dead_child_is_reaped_before_anybody_hears_of_it() {
    let (supervisor, said) = supervisor();
    let pid = supervisor.spawn(ProcessName::Redis, sleeper()).await.unwrap().to_string();
    assert!(runs(&pid));
    supervisor.end(ProcessName::Redis, Signal::SIGKILL, LIMIT).await.unwrap();
    assert!(!exists(&pid), "not even a zombie is left");
    assert_eq!(supervisor.snapshot()[&ProcessName::Redis].ended.as_deref(), Some("signal SIGKILL"));
    let error = supervisor.signal(ProcessName::Redis, Signal::SIGTERM).await.unwrap_err();
    assert!(matches!(error, StackError::ProcessDead(ProcessName::Redis)));
    supervisor.shutdown().await;
    assert_eq!(said.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn children_end_in_stop_order() {
    let (supervisor, said) = supervisor();
    for name in ProcessName::with_copies(COPIES_MAX) {
        supervisor.spawn(name, sleeper()).await.unwrap();
    }
    supervisor.shutdown().await;
    let said = said.lock().unwrap();
    let order: Vec<&str> = said.iter().filter_map(|line| line.split(' ').next()).collect();
    let expected: Vec<&str> = ProcessName::stop_order().into_iter().map(ProcessName::as_str).collect();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn children_end_when_the_last_handle_is_dropped() {
    let (supervisor, _) = supervisor();
    let pid = supervisor.spawn(ProcessName::BrokerSim, sleeper()).await.unwrap().to_string();
    let mut watch = supervisor.watch();
    drop(supervisor);
    watch.wait_for(|all| all[&ProcessName::BrokerSim].pid.is_none()).await.unwrap();
    assert!(!exists(&pid));
}

#[tokio::test]
async fn a_child_is_out_of_reach_of_the_terminals_interrupt() {
    let (supervisor, _) = supervisor();
    let pid = supervisor.spawn(ProcessName::Redis, sleeper()).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    assert_eq!(nix::unistd::getpgid(Some(pid)).unwrap(), pid, "it leads a group of its own");
    supervisor.shutdown().await;
}
