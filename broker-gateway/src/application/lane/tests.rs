//! Who may write to the socket, and when not.

use super::*;
use crate::application::change::Change;
use crate::application::claim::{CallKind, plan};
use crate::application::lane_control::LaneControl;
use crate::application::launch::Room;
use crate::application::ports::{CreateOrder, DatabaseMoment, DialectError, StoreError};
use crate::application::record::{CallOutcome, FinishedCall};
use crate::application::request::{Loaded, NewRequest, Request};
use crate::application::rules::ReviewHold;
use crate::application::wire::{Verb, WireFailure, WireRequest, WireResult};
use crate::config::Settings;
use crate::domain::attempt::{Attempt, AttemptEnd};
use crate::domain::lane::Lane;
use crate::domain::order::tests::terms;
use crate::domain::outcome::{CancelOutcome, CreateOutcome, LookupOutcome};
use crate::domain::retry::{Jitter, Now};
use contracts::{AccountId, BrokerId, BrokerKey, BrokerOrderId, OrderId, Partition};
use platform::clock::SystemClock;
use platform::config::Configuration;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Counts calls and answers none.
#[derive(Default)]
struct CountingCaller(AtomicU32);

impl Caller for CountingCaller {
    async fn call(&self, _request: WireRequest) -> WireResult {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(WireFailure::Broken { reason: "test".to_owned() })
    }
}

/// A language in which every reply means nothing.
struct Mute;

fn nothing() -> WireRequest {
    WireRequest { verb: Verb::Get, target: "/".to_owned(), body: None, traceparent: None }
}

impl Dialect for Mute {
    fn create(&self, order: CreateOrder<'_>) -> Result<WireRequest, DialectError> {
        Ok(WireRequest { target: format!("/{}", order.key), ..nothing() })
    }

    fn lookup_by_key(&self, _: BrokerKey) -> WireRequest {
        nothing()
    }

    fn lookup_by_id(&self, _: &BrokerOrderId) -> WireRequest {
        nothing()
    }

    fn cancel(&self, _: &BrokerOrderId) -> WireRequest {
        nothing()
    }

    fn read_create(&self, _: BrokerKey, _: &WireResult) -> CreateOutcome {
        CreateOutcome::Unknown { reason: String::new() }
    }

    fn read_lookup(&self, _: BrokerKey, _: &WireResult) -> LookupOutcome {
        LookupOutcome::Unknown { reason: String::new() }
    }

    fn read_cancel(&self, _: &WireResult) -> CancelOutcome {
        CancelOutcome::Unknown { reason: String::new() }
    }

    fn broker_code(&self, _: &WireResult) -> Option<i64> {
        None
    }

    fn is_unauthorized(&self, _: &WireResult) -> bool {
        false
    }
}

/// What becomes of the claim's transaction.
#[derive(Clone, Copy)]
enum Commit {
    Unknown,
    /// Committed, but only after this long.
    Late(Duration),
}

/// One due request, once.
struct OneRequest {
    commit: Commit,
    claims: AtomicU32,
}

fn request() -> Request {
    let order_id = OrderId::new(Uuid::from_u128(1));
    let new = NewRequest {
        order_id,
        account_id: AccountId::new(Uuid::from_u128(2)),
        broker_key: BrokerKey::new(Partition::new(2).unwrap(), order_id),
        terms: terms(),
        accepted_at: OffsetDateTime::UNIX_EPOCH,
        traceparent: None,
    };
    new.queued(&BrokerId::new("sim").unwrap(), OffsetDateTime::now_utc())
}

impl LaneStore for OneRequest {
    async fn claim<F>(&self, _limit: u32, _hold: Option<ReviewHold>, decide: F) -> Result<u32, StoreError>
    where
        F: FnOnce(DatabaseMoment, Vec<Loaded>) -> Vec<Change> + Send,
    {
        if self.claims.fetch_add(1, Ordering::SeqCst) > 0 {
            return Ok(0);
        }
        let now = DatabaseMoment { at: OffsetDateTime::now_utc(), asked_at: Instant::now() };
        let changes = decide(now, vec![(request(), Vec::new())]);
        assert!(changes[0].new_attempt.is_some(), "it was claimed");
        match self.commit {
            Commit::Unknown => Err(StoreError::commit_unknown("claim", "connection lost")),
            Commit::Late(delay) => {
                tokio::time::sleep(delay).await;
                Ok(1)
            }
        }
    }

    async fn change<F>(&self, _: Vec<OrderId>, _: HashMap<OrderId, Attempt>, _: F) -> Result<(), StoreError>
    where
        F: FnOnce(OffsetDateTime, Vec<Loaded>) -> Vec<Change> + Send,
    {
        Ok(())
    }
}

struct NoJitter;

impl JitterSource for NoJitter {
    fn permille(&self) -> u16 {
        0
    }
}

/// Runs a lane over one request until it has claimed a few times; answers calls made and ends told.
async fn run(commit: Commit) -> (u32, Vec<FinishedCall>) {
    let mut settings = Settings::defaults().unwrap();
    settings.retry.send_grace_ms = 20;
    settings.lane.poll_interval_ms = 1;
    settings.lane.error_delay_ms = 1;
    let store = Arc::new(OneRequest { commit, claims: AtomicU32::new(0) });
    let caller = Arc::new(CountingCaller::default());
    let (finished, mut ends) = mpsc::channel(8);
    let limits = settings.lane_limits();
    let launcher = Launcher {
        caller: Arc::clone(&caller),
        dialect: Arc::new(Mute),
        jitter: NoJitter,
        clock: Arc::new(SystemClock),
        rules: Arc::new(settings.rules().unwrap()),
        control: LaneControl::new(Lane::new(settings.lane_policy())),
        room: Room::new(limits.concurrency_max, limits.claim_len_max),
        finished,
    };
    let launcher = Arc::new(launcher);
    let worker = LaneWorker { store: Arc::clone(&store), launcher, limits, wake: Arc::new(Notify::new()) };
    let shutdown = CancellationToken::new();
    let end = shutdown.clone();
    let lane = tokio::spawn(worker.run(end));
    while store.claims.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    shutdown.cancel();
    lane.await.unwrap();
    let mut told = Vec::new();
    while let Some(ended) = ends.recv().await {
        told.push(ended);
    }
    (caller.0.load(Ordering::SeqCst), told)
}

#[tokio::test]
async fn when_the_commit_of_the_attempt_is_unknown_nothing_is_written_and_nothing_is_told() {
    let (calls, told) = run(Commit::Unknown).await;
    assert_eq!((calls, told.len()), (0, 0));
}

#[tokio::test]
async fn an_attempt_whose_grace_is_over_writes_nothing_and_says_so() {
    let (calls, told) = run(Commit::Late(Duration::from_millis(60))).await;
    assert_eq!(calls, 0);
    assert_eq!(told.len(), 1);
    assert!(matches!(told[0].outcome, CallOutcome::Create(CreateOutcome::NotSent { .. })), "{told:?}");
}

#[tokio::test]
async fn a_claimed_attempt_is_written_exactly_once() {
    let (calls, told) = run(Commit::Late(Duration::ZERO)).await;
    assert_eq!((calls, told.len()), (1, 1));
    assert!(matches!(told[0].outcome, CallOutcome::Create(CreateOutcome::Unknown { .. })), "{told:?}");
}

#[test]
fn every_attempt_goes_out_under_the_key_of_the_first() {
    let rules = Settings::defaults().unwrap().rules().unwrap();
    let at = |seconds| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds);
    let planned = |seconds, due: Loaded| {
        let now = Now { at: at(seconds), is_trusted: true };
        let (changes, mut calls) = plan(&rules, &Mute, now, vec![due], || Jitter(0));
        (changes[0].request.clone(), calls.pop().expect("it is sent"))
    };
    let (mut asked, first) = planned(0, (request(), Vec::new()));
    // No answer, and after the ladder's first step the broker says "none".
    let mut unanswered = first.attempt.clone().unwrap();
    unanswered.close(AttemptEnd::Unknown, at(7));
    asked.asked.began(at(68));
    asked.asked.heard_none(at(68));
    let (_, second) = planned(70, (asked, vec![unanswered]));
    assert_eq!((first.kind, second.kind), (CallKind::Create { number: 1 }, CallKind::Create { number: 2 }));
    for call in [&first, &second] {
        assert_eq!((call.key, &call.request.target), (request().key(), &format!("/{}", request().key())));
    }
}
