//! Signed pushes: believed or not, stored once, acknowledged after the commit.

use crate::broker::{Event, position};
use crate::harness::{Running, World, eventually, start};
use fill_receiver::config::PushKeySettings;
use hmac::{Hmac, Mac};
use platform::config::Secret;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::AsyncWriteExt;

pub(crate) const SECRET: &str = "the broker's first secret";
const NONCE: &str = "nonce-0000000001";

pub(crate) fn key(id: &str, secret: &str) -> PushKeySettings {
    PushKeySettings {
        id: id.to_owned(),
        secret: Secret::new(secret),
        not_before: String::new(),
        not_after: String::new(),
    }
}

/// A push with everything that can be wrong with one.
#[derive(Clone)]
pub(crate) struct Push {
    key_id: String,
    secret: String,
    nonce: String,
    off_ms: i64,
    body: Vec<u8>,
    /// Sent instead of the body that was signed.
    sent_body: Option<Vec<u8>>,
    content_type: &'static str,
}

impl Push {
    pub(crate) fn of(nonce: &str, body: &[u8]) -> Self {
        Self {
            key_id: "first".to_owned(),
            secret: SECRET.to_owned(),
            nonce: nonce.to_owned(),
            off_ms: 0,
            body: body.to_vec(),
            sent_body: None,
            content_type: "application/json",
        }
    }

    pub(crate) fn signed_by(mut self, key_id: &str, secret: &str) -> Self {
        (self.key_id, self.secret) = (key_id.to_owned(), secret.to_owned());
        self
    }

    pub(crate) async fn to(&self, url: &str) -> Answer {
        let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let timestamp = (i64::try_from(now_ms).unwrap() + self.off_ms).to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(format!("{timestamp}\n{}\n", self.nonce).as_bytes());
        mac.update(&self.body);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client
            .post(url)
            .header("content-type", self.content_type)
            .header("x-push-key-id", &self.key_id)
            .header("x-push-timestamp", timestamp)
            .header("x-push-nonce", &self.nonce)
            .header("x-push-signature", hex::encode(mac.finalize().into_bytes()))
            .body(self.sent_body.clone().unwrap_or_else(|| self.body.clone()))
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        Answer { status, retry_after, body: answer.json().await.unwrap() }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Answer {
    fn code(&self) -> (u16, u64) {
        (self.status, self.body["code"].as_u64().unwrap_or_default())
    }

    fn result(&self) -> (u16, &str) {
        (self.status, self.body["result"].as_str().unwrap_or_default())
    }
}

pub(crate) fn url(receiver: &Running) -> String {
    format!("http://{}/push/v1/events", receiver.service.push_addr.unwrap())
}

async fn pushing(world: &World) -> Running {
    world.receiver_with(world.push_settings()).await
}

#[tokio::test]
async fn a_push_is_acknowledged_only_after_its_commit() {
    let world = World::new().await;
    let receiver = pushing(&world).await;
    let mut heads = world.pool().begin().await.unwrap();
    sqlx::query("select seq from event_heads for update").fetch_all(&mut *heads).await.unwrap();
    let url = url(&receiver);
    let pushed =
        tokio::spawn(async move { Push::of(NONCE, &Event::fill(1, "e-1", position(500, 1)).bytes()).to(&url).await });
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the push waits for the heads", || async { world.count(waiting).await == 1 }).await;
    assert!(!pushed.is_finished());
    assert_eq!(world.count("select count(*) from push_nonces").await, 0);
    heads.rollback().await.unwrap();
    let answer = pushed.await.unwrap();
    assert_eq!(answer.result(), (200, "stored"), "{answer:?}");
    assert_eq!((&answer.body["events"], &answer.body["new"]), (&json!(1), &json!(1)));
    assert_eq!(world.log().await.len(), 1);
    receiver.stop().await;
}

#[tokio::test]
async fn the_same_fill_by_push_and_by_stream_is_one_and_only_the_stream_moves_the_cursor() {
    let world = World::new().await;
    let receiver = pushing(&world).await;
    let url = url(&receiver);
    let before = world.cursor().await;
    let (first, second) = (Event::fill(1, "e-1", position(900, 1)), Event::fill(1, "e-2", position(800, 2)));
    // By push first, in the stream's bytes and in others; by stream later.
    assert_eq!(Push::of(NONCE, &first.bytes()).to(&url).await.status, 200);
    let rendered = serde_json::to_vec_pretty(&first.json).unwrap();
    let again = Push::of("nonce-0000000002", &rendered).to(&url).await;
    assert_eq!((again.result(), &again.body["new"]), ((200, "stored"), &json!(0)));
    world.logged(1).await;
    assert_eq!(world.cursor().await, before, "a push moves no cursor");
    world.broker.publish_all(&[first.clone(), second.clone()]);
    world.logged(2).await;
    eventually("the stream to move the cursor", || async { world.cursor().await == second.position.to_string() }).await;
    // By stream first, by push later.
    let late = Push::of("nonce-0000000003", &second.bytes()).to(&url).await;
    assert_eq!((late.result(), &late.body["new"]), ((200, "stored"), &json!(0)));
    world.logged(2).await;
    receiver.stop().await;
}

#[tokio::test]
async fn a_push_sent_again_is_acknowledged_and_stored_once_also_by_another_copy_and_after_a_restart() {
    let world = World::new().await;
    let receiver = pushing(&world).await;
    let push = Push::of(NONCE, &Event::fill(1, "e-1", position(500, 1)).bytes());
    assert_eq!(push.to(&url(&receiver)).await.result(), (200, "stored"));
    assert_eq!(push.to(&url(&receiver)).await.result(), (200, "repeated"));
    let copy = start(world.push_settings()).await;
    assert_eq!(push.to(&url(&copy)).await.result(), (200, "repeated"));
    receiver.stop().await;
    copy.stop().await;
    let receiver = pushing(&world).await;
    assert_eq!(push.to(&url(&receiver)).await.result(), (200, "repeated"));
    let other = Push::of(NONCE, &Event::fill(1, "e-2", position(400, 2)).bytes());
    assert_eq!(other.to(&url(&receiver)).await.code(), (409, 40_910_000));
    world.logged(1).await;
    assert_eq!(world.count("select count(*) from push_nonces").await, 1);
    receiver.stop().await;
}

#[tokio::test]
async fn one_push_sent_many_times_at_once_to_two_copies_is_stored_once() {
    let world = World::new().await;
    let (first, second) = (pushing(&world).await, start(world.push_settings()).await);
    let push = Push::of(NONCE, &Event::fill(1, "e-1", position(500, 1)).bytes());
    let sends = (0..12).map(|n| {
        let (push, url) = (push.clone(), url(if n % 2 == 0 { &first } else { &second }));
        tokio::spawn(async move { push.to(&url).await })
    });
    let mut stored = 0;
    for sent in sends.collect::<Vec<_>>() {
        let answer = sent.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        stored += usize::from(answer.body["result"] == "stored");
    }
    assert_eq!(stored, 1);
    world.logged(1).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn what_is_not_signed_by_a_valid_key_in_time_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let mut settings = world.push_settings();
    settings.push.keys.push(PushKeySettings { not_after: "2020-01-01T00:00:00Z".to_owned(), ..key("old", SECRET) });
    settings.push.keys.push(PushKeySettings { not_before: "2120-01-01T00:00:00Z".to_owned(), ..key("next", SECRET) });
    let receiver = world.receiver_with(settings).await;
    let url = url(&receiver);
    let good = Push::of(NONCE, &Event::fill(1, "e-1", position(500, 1)).bytes());
    let other = Some(Event::fill(1, "e-2", position(500, 1)).bytes());
    for (push, code) in [
        (good.clone().signed_by("first", "another secret!!"), 40_110_000),
        (good.clone().signed_by("unknown", SECRET), 40_110_000),
        (good.clone().signed_by("old", SECRET), 40_110_000),
        (good.clone().signed_by("next", SECRET), 40_110_000),
        (Push { sent_body: other, ..good.clone() }, 40_110_000),
        (Push { nonce: "short".to_owned(), ..good.clone() }, 40_110_000),
        (Push { off_ms: -301_000, ..good.clone() }, 40_110_001),
        (Push { off_ms: 310_000, ..good.clone() }, 40_110_001),
    ] {
        let answer = push.to(&url).await;
        assert_eq!(answer.code(), (401, code), "{answer:?}");
    }
    assert_eq!(world.count("select count(*) from push_nonces").await, 0);
    assert_eq!(world.count("select count(*) from broker_events").await, 0);
    // A refused attempt does not use the nonce up.
    assert_eq!(good.to(&url).await.result(), (200, "stored"));
    receiver.stop().await;
}

#[tokio::test]
async fn two_keys_are_good_at_once_while_the_broker_goes_from_one_to_the_next() {
    let world = World::new().await;
    let mut settings = world.push_settings();
    settings.push.keys.push(key("second", "the broker's second secret"));
    let receiver = world.receiver_with(settings).await;
    let push = Push::of(NONCE, &Event::fill(1, "e-1", position(500, 1)).bytes());
    assert_eq!(push.to(&url(&receiver)).await.result(), (200, "stored"));
    let rotated = push.signed_by("second", "the broker's second secret").to(&url(&receiver)).await;
    assert_eq!((rotated.result(), &rotated.body["new"]), ((200, "stored"), &json!(0)), "a nonce belongs to its key");
    world.logged(1).await;
    receiver.stop().await;
}

#[tokio::test]
async fn every_limit_of_a_push_has_its_own_answer() {
    let world = World::new().await;
    let mut settings = world.push_settings();
    settings.push.events_max = 2;
    settings.push.body_bytes_max = 8_192;
    settings.push.body_timeout_ms = 300;
    let receiver = world.receiver_with(settings).await;
    let url = url(&receiver);
    let event = Event::fill(1, "e-1", position(500, 1));
    let array = |count: usize| serde_json::to_vec(&vec![event.json.clone(); count]).unwrap();
    let push = |body: &[u8]| Push::of(NONCE, body);
    assert_eq!(push(b"").to(&url).await.code(), (400, 40_010_000));
    assert_eq!(push(b"[]").to(&url).await.code(), (400, 40_010_000));
    assert_eq!(push(&array(3)).to(&url).await.code(), (413, 41_310_001));
    assert_eq!(push(&vec![b' '; 9_000]).to(&url).await.code(), (413, 41_310_000));
    let form = Push { content_type: "text/plain", ..push(&event.bytes()) };
    assert_eq!(form.to(&url).await.code(), (415, 41_510_000));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let bare = client.post(&url).header("content-type", "application/json").body("{}").send().await.unwrap();
    assert_eq!(bare.status(), 401);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 405);
    assert_eq!(client.post(format!("{url}/x")).send().await.unwrap().status(), 404);
    // A body that never ends is not waited for.
    let addr = receiver.service.push_addr.unwrap();
    let mut slow = tokio::net::TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "POST /push/v1/events HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\
         X-Push-Key-Id: first\r\nX-Push-Timestamp: 1\r\nX-Push-Nonce: {NONCE}\r\nX-Push-Signature: {}\r\n\r\n{{",
        "ab".repeat(32)
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    let len = tokio::io::AsyncReadExt::read(&mut slow, &mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer[..len]).starts_with("HTTP/1.1 408"), "{answer:?}");
    // Within the limits it is taken, and one event twice in an array is one.
    let both = push(&array(2)).to(&url).await;
    assert_eq!((both.result(), &both.body["events"], &both.body["new"]), ((200, "stored"), &json!(2), &json!(1)));
    world.logged(1).await;
    receiver.stop().await;
}

#[tokio::test]
async fn what_the_broker_signed_is_kept_even_where_it_cannot_be_read() {
    let world = World::new().await;
    let receiver = pushing(&world).await;
    let url = url(&receiver);
    let good = Event::fill(1, "e-1", position(900, 1));
    let bad = Event::fill(1, "e-2", position(800, 2)).with("qty", json!("-1"));
    let strange = Event::new("a_word_of_tomorrow", 1, position(700, 3));
    let body = serde_json::to_vec(&json!([good.json, bad.json, strange.json])).unwrap();
    let answer = Push::of(NONCE, &body).to(&url).await;
    assert_eq!((answer.status, &answer.body["new"], &answer.body["parked"]), (200, &json!(2), &json!(1)));
    world.logged(2).await;
    let nonsense = Push::of("nonce-0000000002", b"[{\"event\": \"fill\"").to(&url).await;
    assert_eq!((nonsense.status, &nonsense.body["parked"]), (200, &json!(1)));
    let (_, parked) = receiver.get("/ops/v1/parked").await;
    let reasons: Vec<&Value> = parked["parked"].as_array().unwrap().iter().map(|p| &p["reason"]).collect();
    assert_eq!(reasons, ["out_of_range", "malformed"]);
    receiver.stop().await;
}

#[tokio::test]
async fn an_event_that_the_database_refuses_is_parked_and_its_neighbours_are_stored() {
    let world = World::new().await;
    let receiver = pushing(&world).await;
    sqlx::query(
        "alter table broker_events add constraint no_bad check (position(convert_to('e-bad', 'UTF8') in body) = 0)",
    )
    .execute(world.pool())
    .await
    .unwrap();
    let events = [
        Event::fill(1, "e-1", position(1000, 1)),
        Event::fill(2, "e-bad", position(900, 2)),
        Event::fill(3, "e-3", position(800, 3)),
    ];
    let body = serde_json::to_vec(&events.map(|event| event.json)).unwrap();
    let push = Push::of(NONCE, &body);
    let answer = push.to(&url(&receiver)).await;
    assert_eq!((answer.result(), &answer.body["new"], &answer.body["parked"]), ((200, "stored"), &json!(2), &json!(1)));
    assert_eq!(push.to(&url(&receiver)).await.result(), (200, "repeated"));
    world.logged(2).await;
    receiver.stop().await;
}

#[tokio::test]
async fn nonces_are_pruned_only_when_no_signature_can_carry_them_any_more() {
    let world = World::new().await;
    let mut settings = world.push_settings();
    settings.push.prune_interval_ms = 20;
    let receiver = world.receiver_with(settings).await;
    for n in 1..=2 {
        let body = Event::fill(1, &format!("e-{n}"), position(500, n)).bytes();
        assert_eq!(Push::of(&format!("nonce-000000000{n}"), &body).to(&url(&receiver)).await.status, 200);
    }
    sqlx::query(
        "update push_nonces set stored_at = stored_at - interval '901 seconds' where nonce = 'nonce-0000000001'",
    )
    .execute(world.pool())
    .await
    .unwrap();
    eventually("pruning", || async { world.count("select count(*) from push_nonces").await == 1 }).await;
    assert_eq!(world.count("select count(*) from push_nonces where nonce = 'nonce-0000000002'").await, 1);
    receiver.stop().await;
}

#[tokio::test]
async fn a_receiver_that_takes_pushes_is_ready_without_its_stream_and_tells_that_it_is_away() {
    let world = World::new().await;
    world.broker.refuse_all(true);
    let mut settings = world.push_settings();
    settings.watch.stream_late_ms = 50;
    let receiver = start(settings).await;
    eventually("the stream is late", || async {
        receiver.get("/ops/v1/health").await.1["stream_status"]["late"] == json!(true)
    })
    .await;
    assert_eq!(receiver.get("/ops/v1/ready").await.0, 200);
    let push = Push::of(NONCE, &Event::fill(1, "e-1", position(500, 1)).bytes());
    assert_eq!(push.to(&url(&receiver)).await.result(), (200, "stored"));
    assert_eq!(receiver.get("/ops/v1/health").await.1["push"]["pushes_taken"], json!(1));
    world.broker.refuse_all(false);
    eventually("the stream is back", || async {
        receiver.get("/ops/v1/health").await.1["stream_status"]["late"] == json!(false)
    })
    .await;
    receiver.stop().await;
}
