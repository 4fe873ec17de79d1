//! The account lock.

use crate::slow_wire::overtaking;
use crate::world::{PATIENCE, look_into};
use contracts::AccountId;
use platform::breaker::{BreakerConfig, BreakerState};
use platform::config::{RedisConfig, Secret};
use platform::keys;
use platform::lock::{AccountLocks, HeldLock, LockAnswer, LockConfig, ReleaseReport};
use platform::testing::{TestRedis, eventually};
use redis::AsyncCommands;
use uuid::Uuid;

fn account(n: u128) -> AccountId {
    AccountId::new(Uuid::from_u128(n))
}

/// A lease that no test outlives: what is free again was given back.
fn config() -> LockConfig {
    LockConfig {
        lease_ms: 600_000,
        breaker: BreakerConfig { open_ms: 50, ..BreakerConfig::default() },
        ..LockConfig::default()
    }
}

fn locks(redis: &TestRedis) -> AccountLocks {
    AccountLocks::new(&redis.config(), config()).unwrap()
}

fn held(answers: Vec<LockAnswer>) -> Vec<HeldLock> {
    answers
        .into_iter()
        .filter_map(|answer| match answer {
            LockAnswer::Acquired(lock) => Some(lock),
            LockAnswer::Busy | LockAnswer::Unavailable => None,
        })
        .collect()
}

fn words(answers: &[LockAnswer]) -> Vec<&'static str> {
    answers
        .iter()
        .map(|answer| match answer {
            LockAnswer::Acquired(_) => "acquired",
            LockAnswer::Busy => "busy",
            LockAnswer::Unavailable => "unavailable",
        })
        .collect()
}

async fn becomes_free(locks: &AccountLocks, account: AccountId) -> bool {
    eventually(PATIENCE, || async {
        let taken = held(locks.acquire_many(&[account]).await);
        let free = !taken.is_empty();
        locks.release_many(taken).await;
        free
    })
    .await
}

async fn breaker_is(locks: &AccountLocks, state: BreakerState) -> bool {
    eventually(PATIENCE, || async { locks.health().breaker == state }).await
}

#[tokio::test]
async fn a_lock_is_busy_for_others_until_it_is_released() {
    let redis = TestRedis::start();
    let (ours, theirs) = (locks(&redis), locks(&redis));
    let first = ours.acquire_many(&[account(1), account(2)]).await;
    assert_eq!(words(&first), ["acquired", "acquired"]);
    let second = theirs.acquire_many(&[account(2), account(3)]).await;
    assert_eq!(words(&second), ["busy", "acquired"]);
    let report = ours.release_many(held(first)).await;
    assert_eq!(report, ReleaseReport { released: 2, ..ReleaseReport::default() });
    assert_eq!(words(&theirs.acquire_many(&[account(2)]).await), ["acquired"]);
    assert_eq!((theirs.health().acquired, theirs.health().busy), (2, 1));
}

#[tokio::test]
async fn busy_and_unavailable_are_different_answers() {
    let mut redis = TestRedis::start();
    let (ours, theirs) = (locks(&redis), locks(&redis));
    let _held = ours.acquire_many(&[account(1)]).await;
    assert_eq!(words(&theirs.acquire_many(&[account(1)]).await), ["busy"]);
    redis.stop();
    assert_eq!(words(&theirs.acquire_many(&[account(1), account(2)]).await), ["unavailable", "unavailable"]);
}

#[tokio::test]
async fn of_many_at_once_exactly_one_gets_the_lock() {
    let redis = TestRedis::start();
    let everyone: Vec<AccountLocks> = (0..20).map(|_| locks(&redis)).collect();
    let asked = everyone.iter().map(|locks| locks.acquire_many(std::slice::from_ref(&ONE)));
    let answers = futures_util::future::join_all(asked).await;
    assert_eq!(answers.iter().flatten().filter(|a| matches!(a, LockAnswer::Acquired(_))).count(), 1);
}

const ONE: AccountId = AccountId::new(Uuid::from_u128(1));

#[tokio::test]
async fn an_account_named_twice_in_one_call_is_taken_once() {
    let redis = TestRedis::start();
    let answers = locks(&redis).acquire_many(&[account(1), account(1)]).await;
    assert_eq!(words(&answers), ["acquired", "busy"]);
}

#[tokio::test]
async fn a_lock_that_expired_while_held_is_counted_and_anothers_is_left_alone() {
    let redis = TestRedis::start();
    let short = AccountLocks::new(&redis.config(), LockConfig { lease_ms: 1, ..config() }).unwrap();
    let other = locks(&redis);
    let ours = held(short.acquire_many(&[account(1)]).await);
    let mut theirs = Vec::new();
    assert!(
        eventually(PATIENCE, || {
            let other = other.clone();
            async move { !matches!(other.acquire_many(&[account(1)]).await.as_slice(), [LockAnswer::Unavailable]) }
        })
        .await
    );
    while theirs.is_empty() {
        theirs = held(other.acquire_many(&[account(1)]).await);
    }
    assert!(ours[0].is_expired());
    let report = short.release_many(ours).await;
    assert_eq!(report, ReleaseReport { expired_while_held: 1, refused: 1, ..ReleaseReport::default() });
    assert_eq!((short.health().expired_while_held, short.health().release_refused), (1, 1));
    let mut connection = look_into(&redis.config()).await;
    assert!(connection.exists::<_, bool>(keys::account_lock(account(1))).await.unwrap(), "theirs stays");
    assert_eq!(other.release_many(theirs).await.released, 1);
}

#[tokio::test]
async fn a_lock_whose_lease_ended_and_that_nobody_took_is_expired_and_not_refused() {
    let redis = TestRedis::start();
    let short = AccountLocks::new(&redis.config(), LockConfig { lease_ms: 1, ..config() }).unwrap();
    let ours = held(short.acquire_many(&[account(1)]).await);
    let connection = look_into(&redis.config()).await;
    let gone = eventually(PATIENCE, || {
        let mut connection = connection.clone();
        async move { !connection.exists::<_, bool>(keys::account_lock(account(1))).await.unwrap() }
    });
    assert!(gone.await);
    let report = short.release_many(ours).await;
    assert_eq!(report, ReleaseReport { expired_while_held: 1, ..ReleaseReport::default() });
}

#[tokio::test]
async fn a_lock_from_before_redis_was_emptied_is_not_released_from_its_new_holder() {
    let mut redis = TestRedis::start();
    let (ours, theirs) = (locks(&redis), locks(&redis));
    let old = held(ours.acquire_many(&[account(1)]).await);
    redis.start_again();
    let mut new = Vec::new();
    while new.is_empty() {
        new = held(theirs.acquire_many(&[account(1)]).await);
    }
    assert!(breaker_is(&ours, BreakerState::Closed).await);
    // Its connection may have to be made anew; the background goes on then.
    let report = ours.release_many(old).await;
    assert_eq!(report.released, 0, "{report:?}");
    assert_eq!(words(&locks(&redis).acquire_many(&[account(1)]).await), ["busy"], "theirs stays");
    assert_eq!(theirs.release_many(new).await.released, 1);
}

#[tokio::test]
async fn a_lock_that_is_dropped_is_released_in_the_background() {
    let redis = TestRedis::start();
    let (ours, theirs) = (locks(&redis), locks(&redis));
    let taken = held(ours.acquire_many(&[account(1)]).await);
    let panicking = tokio::spawn(async move {
        let _held_until_the_end = taken;
        panic!("a defect in the batch");
    });
    assert!(panicking.await.is_err());
    assert!(becomes_free(&theirs, account(1)).await);
}

#[tokio::test]
async fn locks_of_a_call_that_is_given_up_half_way_do_not_stay() {
    let redis = TestRedis::start();
    let (ours, theirs) = (locks(&redis), locks(&redis));
    for n in 0..50_u32 {
        let accounts = [account(1), account(2), account(3)];
        let mut call = Box::pin(ours.acquire_many(&accounts));
        // Polled some times and then dropped, as a client that hangs up does.
        for _ in 0..n % 5 {
            let _maybe_done = futures_util::poll!(&mut call);
            tokio::task::yield_now().await;
            if n % 5 == 4 {
                break;
            }
        }
        drop(call);
    }
    for n in 1..=3 {
        assert!(becomes_free(&theirs, account(n)).await, "account {n}");
    }
}

#[tokio::test]
async fn an_acquire_that_failed_half_way_releases_every_token_it_tried() {
    let redis = TestRedis::start();
    let mut connection = look_into(&redis.config()).await;
    // A user who may lock account 1 and not account 2: the first SET works, the second is refused.
    let _ok: () = redis::cmd("ACL")
        .arg(&["SETUSER", "half", "on", ">pw", "+@all"])
        .arg(format!("~{}", keys::account_lock(account(1))))
        .query_async(&mut connection)
        .await
        .unwrap();
    let half = RedisConfig { url: Secret::new(redis.url().replace("redis://", "redis://half:pw@")), ..redis.config() };
    let ours = AccountLocks::new(&half, config()).unwrap();
    assert_eq!(words(&ours.acquire_many(&[account(1), account(2)]).await), ["unavailable", "unavailable"]);
    assert!(becomes_free(&locks(&redis), account(1)).await);
    assert!(
        eventually(PATIENCE, || async { ours.health().partial_acquire_released == 1 }).await,
        "{:?}",
        ours.health()
    );
}

#[tokio::test]
async fn a_frozen_redis_opens_the_breaker_and_it_heals_by_itself() {
    let redis = TestRedis::start();
    let ours = locks(&redis);
    let kept = held(ours.acquire_many(&[account(9)]).await);
    redis.pause();
    // Each wait is bounded by the response timeout; the outer limit only ends a failing test.
    let first = tokio::time::timeout(PATIENCE, ours.acquire_many(&[account(1)])).await.unwrap();
    assert_eq!(words(&first), ["unavailable"]);
    assert_eq!(ours.health().breaker, BreakerState::Open);
    for _ in 0..1000 {
        let answers = tokio::time::timeout(PATIENCE, ours.acquire_many(&[account(1)])).await.unwrap();
        assert_eq!(words(&answers), ["unavailable"]);
    }
    let report = tokio::time::timeout(PATIENCE, ours.release_many(kept)).await.unwrap();
    assert_eq!(report.failed, 1);
    redis.resume();
    assert!(breaker_is(&ours, BreakerState::Closed).await);
    // Neither the lock that the frozen server took in late, nor the one that could not be given
    // back, stays until its lease ends.
    assert!(becomes_free(&ours, account(1)).await);
    assert!(becomes_free(&ours, account(9)).await);
    assert_eq!(ours.health().expired_while_held, 0, "only a lease that ran out counts");
}

#[tokio::test]
async fn a_lock_that_is_taken_after_its_release_was_answered_does_not_stay() {
    let redis = TestRedis::start();
    let ours = AccountLocks::new(&overtaking(&redis.config()).await, config()).unwrap();
    assert_eq!(words(&ours.acquire_many(&[account(1)]).await), ["unavailable"]);
    let connection = look_into(&redis.config()).await;
    let key = keys::account_lock(account(1));
    let arrived = eventually(PATIENCE, || {
        let (mut connection, key) = (connection.clone(), key.clone());
        async move { connection.exists::<_, bool>(key).await.unwrap() }
    });
    assert!(arrived.await, "the late SET must arrive, or this proves nothing");
    let gone = eventually(PATIENCE, || {
        let (mut connection, key) = (connection.clone(), key.clone());
        async move { !connection.exists::<_, bool>(key).await.unwrap() }
    });
    assert!(gone.await);
}

#[tokio::test]
async fn locks_start_without_redis_and_come_with_it() {
    let mut redis = TestRedis::start();
    redis.stop();
    let ours = locks(&redis);
    for _ in 0..5 {
        assert_eq!(words(&ours.acquire_many(&[account(1)]).await), ["unavailable"]);
    }
    assert!(breaker_is(&ours, BreakerState::Open).await);
    redis.start_again();
    assert!(breaker_is(&ours, BreakerState::Closed).await);
    assert!(becomes_free(&ours, account(1)).await);
}

#[tokio::test]
async fn a_restarted_redis_that_forgot_the_script_still_releases() {
    let mut redis = TestRedis::start();
    let ours = locks(&redis);
    let taken = held(ours.acquire_many(&[account(1)]).await);
    assert_eq!(ours.release_many(taken).await.released, 1);
    redis.start_again();
    let mut taken = Vec::new();
    while taken.is_empty() {
        taken = held(ours.acquire_many(&[account(1), account(2)]).await);
    }
    assert_eq!(ours.release_many(taken).await, ReleaseReport { released: 2, ..ReleaseReport::default() });
}

#[test]
fn a_lease_shorter_than_a_call_is_refused() {
    let redis = RedisConfig { url: Secret::new("redis://h"), response_timeout_ms: 250, connect_timeout_ms: 250 };
    assert!(LockConfig::default().validate(&redis).is_ok());
    let error = LockConfig { lease_ms: 300, ..config() }.validate(&redis).unwrap_err();
    assert!(error.to_string().contains("lease_ms"));
}
