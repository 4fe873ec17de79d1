//! What a reader of the event stream sees.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::broker_support::{Broker, KEY_ID, LIMIT, SECRET, Said, market, resting, settings};

#[tokio::test]
async fn live_stream_shows_only_what_comes_after_it() {
    let broker = Broker::start().await;
    broker.submit(&market("before", "1")).await.unwrap();
    let mut stream = broker.stream("").await;
    broker.submit(&market("after", "1")).await.unwrap();
    let events = stream.until_filled("after").await;
    assert!(events.iter().all(|event| event.order.client_order_id == "after"));
    broker.shutdown().await;
}

#[tokio::test]
async fn replay_from_any_cursor_misses_nothing_and_goes_on_live() {
    let broker = Broker::start().await;
    for n in 0..300 {
        broker.submit(&market(&format!("k{n}"), "1")).await.unwrap();
    }
    let mut all = broker.stream("since=2020-01-01").await.until_filled("k299").await;
    assert!(all.is_sorted_by(|a, b| a.event_id < b.event_id));
    let middle = all.len() / 2;
    let rest = all.split_off(middle);
    let cursor = &all.last().unwrap().event_id;
    let mut stream = broker.stream(&format!("since_id={cursor}")).await;
    assert_eq!(stream.until_filled("k299").await, rest);
    broker.submit(&market("live", "1")).await.unwrap();
    let live = stream.until_filled("live").await;
    assert!(live.iter().all(|event| event.order.client_order_id == "live"));

    let until = &rest[4].event_id;
    let mut bounded = broker.stream(&format!("since_id={cursor}&until_id={until}")).await;
    for expected in &rest[..5] {
        assert_eq!(bounded.event().await, *expected);
    }
    loop {
        match bounded.next().await {
            Said::Comment(_) => {}
            Said::Ended => break,
            other => panic!("the end expected: {other:?}"),
        }
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn contradictory_ranges_are_refused() {
    let broker = Broker::start().await;
    for query in [
        "since=2020-01-01&since_id=01KWF6H7000V6G4PWQAJMK4000",
        "until=2020-01-01",
        "until_id=01KWF6H7000V6G4PWQAJMK4000",
        "since=yesterday",
        "since_id=17",
    ] {
        let answer = broker.get(&format!("/v2/events/trades?{query}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{query}");
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn replay_of_events_that_are_gone_is_answered_410() {
    let mut settings = settings(1, None);
    settings.events_retained_max = 4;
    let broker = Broker::start_with(settings).await;
    for n in 0..10 {
        broker.submit(&market(&format!("k{n}"), "1")).await.unwrap();
    }
    let answer = broker.get("/v2/events/trades?since=2020-01-01").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::GONE);
    broker.shutdown().await;
}

#[tokio::test]
async fn quiet_stream_has_heartbeats() {
    let broker = Broker::start().await;
    let mut stream = broker.stream("").await;
    for _ in 0..3 {
        let Said::Comment(comment) = stream.next().await else { panic!("a comment expected") };
        assert_eq!(comment, "heartbeat");
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn dropped_events_are_announced_live_and_shown_by_a_replay() {
    let broker = Broker::start().await;
    let mut stream = broker.stream("").await;
    broker.operate("/sim/v1/streams/drop", json!({"count": 1})).await;
    broker.submit(&resting("dropped")).await.unwrap();
    let announced = loop {
        match stream.next().await {
            Said::Comment(comment) if comment == "heartbeat" => {}
            said => break said,
        }
    };
    let Said::Comment(comment) = announced else { panic!("a comment expected") };
    assert_eq!(comment, " you are reading too slowly, dropped 1 messages");
    let mut replay = broker.stream("since=2020-01-01").await;
    assert_eq!(replay.event().await.order.client_order_id, "dropped");
    broker.shutdown().await;
}

#[tokio::test]
async fn reader_that_lags_too_far_loses_events_and_is_told_how_many() {
    let broker = Broker::start().await;
    broker.configure(json!({"stream_buffer_max": 100, "heartbeat_ms": 20})).await;
    let mut slow = tokio::net::TcpStream::connect(broker.addr()).await.unwrap();
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{KEY_ID}:{SECRET}"));
    let request = format!("GET /v2/events/trades HTTP/1.1\r\nhost: sim\r\nauthorization: Basic {key}\r\n\r\n");
    slow.write_all(request.as_bytes()).await.unwrap();
    let mut start = [0; 16];
    slow.read_exact(&mut start).await.unwrap();
    assert!(start.starts_with(b"HTTP/1.1 200"));
    // Fill every buffer on the way, until the broker has given up on this reader.
    let mut read = String::new();
    for round in 0..100 {
        for n in 0..200 {
            broker.submit(&market(&format!("{round}-{n}"), "1")).await.unwrap();
        }
        if round >= 20 && round % 20 == 0 {
            let mut bytes = vec![0; 4_000_000];
            while let Ok(Ok(len)) = tokio::time::timeout(Duration::from_millis(300), slow.read(&mut bytes)).await {
                read.push_str(&String::from_utf8_lossy(&bytes[..len]));
                if len == 0 || read.contains("dropped") {
                    break;
                }
            }
            if read.contains("dropped") {
                break;
            }
        }
    }
    assert!(read.contains(": you are reading too slowly, dropped "));
    drop(slow);
    broker.shutdown().await;
}

#[tokio::test]
async fn reset_breaks_every_stream_and_a_replay_closes_the_gap() {
    let broker = Broker::start().await;
    let mut stream = broker.stream("").await;
    broker.submit(&market("k1", "1")).await.unwrap();
    let cursor = stream.until_filled("k1").await.last().unwrap().event_id.clone();
    broker.operate("/sim/v1/streams/reset", json!({})).await;
    loop {
        match stream.next().await {
            Said::Comment(_) => {}
            Said::Broken => break,
            other => panic!("a reset expected: {other:?}"),
        }
    }
    broker.submit(&market("k2", "1")).await.unwrap();
    let missed = broker.stream(&format!("since_id={cursor}")).await.until_filled("k2").await;
    assert!(missed.iter().all(|event| event.order.client_order_id == "k2"));
    broker.shutdown().await;
}

#[tokio::test]
async fn fill_is_on_the_stream_while_the_reply_is_still_held() {
    let broker = Broker::start().await;
    let mut stream = broker.stream("").await;
    let delay_ms = u64::try_from(LIMIT.as_millis()).unwrap() / 2;
    broker.fault(json!({"client_order_id": "k1", "fault": "fill_before_ack", "delay_ms": delay_ms})).await;
    let order = market("k1", "1");
    tokio::select! {
        biased;
        _ = broker.submit(&order) => panic!("the reply came before the fill"),
        _ = stream.until_filled("k1") => {}
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn lost_event_is_missing_live_without_a_word_and_there_in_a_replay() {
    let broker = Broker::start().await;
    let mut live = broker.stream("").await;
    broker.fault(json!({"client_order_id": "lost", "fault": "lost_event"})).await;
    broker.submit(&market("lost", "1")).await.unwrap();
    broker.submit(&market("next", "1")).await.unwrap();
    let seen = live.until_filled("next").await;
    assert!(!seen.iter().any(|event| event.order.client_order_id == "lost" && event.qty.is_some()));
    let replayed = broker.stream("since=2020-01-01").await.until_filled("next").await;
    assert!(replayed.iter().any(|event| event.order.client_order_id == "lost" && event.qty.is_some()));
    broker.shutdown().await;
}
