//! The feed over HTTP.

use crate::world::{FeedServer, PRODUCER, TOKEN, commit, database, new_event, partition};
use contracts::event::Producer;
use platform::eventlog;
use platform::feed::{FeedError, Unservable};
use serde_json::Value;

async fn status_and_body(url: String, token: Option<&str>) -> (u16, Value) {
    platform::tls::install_crypto_provider();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn the_feed_demands_its_token() {
    let log = database().await;
    let feed = FeedServer::start(&log.pool).await;
    for path in ["feed/heads", "feed/0?after=0&limit=1"] {
        for token in [None, Some("wrong"), Some("")] {
            let (status, _) = status_and_body(format!("{}/{path}", feed.url), token).await;
            assert_eq!(status, 401, "{path} {token:?}");
        }
        assert_eq!(status_and_body(format!("{}/{path}", feed.url), Some(TOKEN)).await.0, 200);
    }
    let refused = feed.client_with("wrong").heads(PRODUCER).await;
    assert!(matches!(refused, Err(FeedError::Unauthorized)));
}

#[tokio::test]
async fn limits_are_enforced_with_a_code() {
    let log = database().await;
    let feed = FeedServer::start(&log.pool).await;
    for (query, status, code) in [
        ("0?after=0&limit=0", 400, 40_010_000),
        ("0?after=0&limit=1001", 400, 40_010_000),
        ("0?after=-1&limit=1", 400, 40_010_000),
        ("0?after=x&limit=1", 400, 40_010_000),
        ("0?limit=1", 400, 40_010_000),
        ("0?after=0&limit=1&more=1", 400, 40_010_000),
        ("16?after=0&limit=1", 404, 40_410_000),
        ("-1?after=0&limit=1", 404, 40_410_000),
        ("x?after=0&limit=1", 404, 40_410_000),
        ("0?after=1&limit=1", 410, 41_010_000),
    ] {
        let (actual, body) = status_and_body(format!("{}/feed/{query}", feed.url), Some(TOKEN)).await;
        assert_eq!((actual, body["code"].as_i64()), (status, Some(code)), "{query}");
    }
}

#[tokio::test]
async fn events_come_in_order_after_the_place_and_at_most_the_limit() {
    let log = database().await;
    let feed = FeedServer::start(&log.pool).await;
    let sent = commit(&log.pool, partition(3), 7).await;
    let client = feed.client();
    assert_eq!(client.read(partition(3), 0, 1000).await.unwrap(), sent);
    assert_eq!(client.read(partition(3), 2, 3).await.unwrap(), sent[2..5]);
    assert_eq!(client.read(partition(3), 7, 3).await.unwrap(), []);
    let heads = client.heads(PRODUCER).await.unwrap();
    assert_eq!(heads.len(), 16);
    assert_eq!((heads[&partition(3)].seq, heads[&partition(3)].event_id), (7, Some(sent[6].id)));
    assert_eq!(heads[&partition(4)].event_id, None);
}

#[tokio::test]
async fn a_place_beyond_the_end_or_before_the_start_is_410_with_the_reason() {
    let log = database().await;
    let feed = FeedServer::start(&log.pool).await;
    commit(&log.pool, partition(3), 4).await;
    let beyond = feed.client().read(partition(3), 5, 10).await;
    assert!(matches!(beyond, Err(FeedError::Unservable { after: 5, reason: Unservable::History })), "{beyond:?}");
    sqlx::query("delete from event_log where partition = 3 and seq < 3").execute(&log.pool).await.unwrap();
    let before = feed.client().read(partition(3), 0, 10).await;
    assert!(matches!(before, Err(FeedError::Unservable { after: 0, reason: Unservable::Gone })), "{before:?}");
}

#[tokio::test]
async fn an_answer_is_cut_where_its_payloads_grow_too_large() {
    let log = database().await;
    let feed = FeedServer::start(&log.pool).await;
    let large = format!("\"{}\"", "x".repeat(60_000));
    let events = (0..200).map(|_| eventlog::NewEvent { payload: large.clone(), ..new_event(partition(3)) }).collect();
    let mut tx = log.pool.begin().await.unwrap();
    eventlog::append(&mut tx, PRODUCER, events).await.unwrap();
    tx.commit().await.unwrap();
    let mut read = 0;
    let mut answers = 0;
    while read < 200 {
        let events = feed.client().read(partition(3), read, 1000).await.unwrap();
        assert_eq!(events.first().map(|e| e.seq), Some(read + 1));
        read += i64::try_from(events.len()).unwrap();
        answers += 1;
    }
    assert!(answers > 1);
}

#[tokio::test]
async fn an_address_of_another_producer_is_noticed() {
    let log = database().await;
    let feed = FeedServer::start(&log.pool).await;
    let answer = feed.client().heads(Producer::FillReceiver).await;
    assert!(matches!(answer, Err(FeedError::OtherProducer { actual: PRODUCER })));
}
