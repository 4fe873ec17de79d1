//! Asking a broker for its orders: what a stream without replay has missed.

use crate::broker::{Event, broker_order, position};
use crate::copies::store;
use crate::cumulative::{FAR, figures, fills, settings, text};
use crate::harness::{Running, World, eventually, start_by};
use fill_receiver::application::ports::{EventStore, FigureStore, PollMove, StoreError};
use fill_receiver::domain::cursor::Cursor;
use platform::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use time::{Duration, OffsetDateTime};

#[tokio::test]
async fn what_the_stream_never_told_is_found_by_asking_for_the_orders() {
    let world = World::new().await;
    // Several pages, and two orders of one moment across the end of a page.
    let begun = time::OffsetDateTime::now_utc();
    for (order, ms) in [(1, 0), (2, 10), (3, 20), (4, 20), (5, 30)] {
        let event = Event::filled("partial_fill", order, position(0, order), ("3", "10.016666667"));
        world.broker.show(&event.placed(&text(begun + time::Duration::milliseconds(ms))));
    }
    let receiver = world.receiver_with(settings(&world, 20)).await;
    // Each a state, and two fills that come to 30.05.
    world.logged(5 * 3).await;
    for order in fills(&world).await.chunks(2) {
        assert_eq!(order, figures(&[(1, "10.0166"), (2, "10.0167")]));
    }
    more_polls(&world, 12).await;
    world.logged(5 * 3).await;
    receiver.stop().await;
}

#[tokio::test]
async fn an_open_order_of_long_ago_is_asked_for_until_it_is_at_its_end() {
    let world = World::new().await;
    let old = "2020-01-01T00:00:00Z";
    let receiver = world.receiver_with(settings(&world, 20)).await;
    world.broker.publish(&Event::filled("partial_fill", 1, position(900, 1), ("2", "10")));
    world.logged(2).await;
    world.broker.show(&Event::filled("canceled", 1, position(0, 1), ("3", "10")).placed(old));
    world.logged(4).await;
    assert_eq!(fills(&world).await, figures(&[(2, "10"), (1, "10")]));
    let alone = world.broker.shown_alone();
    assert!(alone.iter().all(|id| *id == broker_order(1)));
    more_polls(&world, 3).await;
    assert!(world.broker.shown_alone().len() <= alone.len() + 1, "nobody asks for an ended order again");
    receiver.stop().await;
}

/// Waits until so many more polls were answered.
async fn more_polls(world: &World, count: usize) {
    let listed = world.broker.listed();
    eventually("some more polls", || async { world.broker.listed() >= listed + count }).await;
}

/// Whether a counter has counted. All tests share it, so no more can be said.
async fn counted(receiver: &Running, name: &str) -> bool {
    let (_, page) = receiver.get("/metrics").await;
    let page = page.as_str().unwrap();
    page.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0"))
}

/// A receiver that reads the stream and is not answered when it asks for orders, until the stream counts as whole.
async fn alive_and_never_polled(world: &World) -> Running {
    world.broker.refuse_lists(true);
    let mut settings = settings(world, 20);
    settings.stream.alive_interval_ms = 20;
    settings.stream.overlap_ms = 200;
    settings.stream.cursor_lead_max_ms = 100;
    let receiver = world.receiver_with(settings).await;
    let alive = "select count(*) from streams where alive_at > now() - interval '10 minutes'";
    eventually("a sign of life", || async { world.count(alive).await == 1 }).await;
    more_polls(world, 3).await;
    receiver
}

#[tokio::test]
async fn a_receiver_that_dies_between_the_first_sign_of_life_and_its_first_whole_poll_asks_for_that_stretch_again() {
    let world = World::new().await;
    alive_and_never_polled(&world).await.stop().await;
    let missed = OffsetDateTime::now_utc() - Duration::minutes(30);
    world.broker.show(&Event::filled("partial_fill", 1, position(0, 1), ("3", "10")).placed(&text(missed)));
    world.broker.refuse_lists(false);
    let receiver = world.receiver_with(settings(&world, FAR)).await;
    world.logged(2).await;
    assert_eq!(fills(&world).await, figures(&[(3, "10")]));
    receiver.stop().await;
}

#[tokio::test]
async fn how_far_was_asked_moves_only_from_where_it_was_read() {
    let world = World::new().await;
    let store = store(&world, "trades");
    let now = OffsetDateTime::now_utc();
    let from = store.open_stream(Cursor::at(now - Duration::hours(1)), now).await.unwrap().polled_to;
    let mine = store.record_polled(PollMove { from, to: now - Duration::minutes(5), behind_ms: None }).await.unwrap();
    // A copy that was frozen in a poll, and knows nothing of the one that polled meanwhile.
    let late = store.record_polled(PollMove { from, to: now, behind_ms: None }).await;
    assert!(matches!(late, Err(StoreError::CursorLost)), "{late:?}");
    assert_eq!(store.open_stream(Cursor::at(now), now).await.unwrap().polled_to, mine);
}

#[tokio::test]
async fn an_order_that_cannot_be_read_waits_for_a_person_and_neither_its_neighbours_nor_later_pages_wait_for_it() {
    let world = World::new().await;
    let begun = OffsetDateTime::now_utc();
    for order in 1..=7_u32 {
        let event = Event::filled("partial_fill", order.into(), position(0, order.into()), ("3", "10"));
        let mut event = event.placed(&text(begun + Duration::milliseconds(order.into())));
        if order == 2 || order == 7 {
            event.json["order"]["filled_qty"] = json!({"value": "3"});
        }
        world.broker.show(&event);
    }
    let receiver = world.receiver_with(settings(&world, 20)).await;
    // Five that can be read, over several pages, each a state and a fill.
    world.logged(5 * 2).await;
    let polled = "select count(*) from streams where polled_to > now() - interval '10 minutes'";
    eventually("progress", || async { world.count(polled).await == 1 }).await;
    let (_, parked) = receiver.get("/ops/v1/parked").await;
    let bodies: Vec<&Value> = parked["parked"].as_array().unwrap().iter().map(|frame| &frame["body"]).collect();
    assert_eq!(bodies.len(), 2, "{parked}");
    assert!([2, 7].iter().all(|n| bodies.iter().any(|body| body.to_string().contains(&broker_order(*n)))), "{parked}");
    // Once, however often it is shown, and until it can be read.
    more_polls(&world, 12).await;
    assert_eq!(world.count("select count(*) from parked").await, 2);
    assert!(counted(&receiver, "fill_receiver_unreadable_orders_total").await);
    let mended = Event::filled("partial_fill", 2, position(0, 2), ("3", "10"));
    world.broker.show(&mended.placed(&text(begun + Duration::milliseconds(2))));
    world.logged(6 * 2).await;
    receiver.stop().await;
}

/// The machine's clock, set by so many seconds.
#[derive(Clone, Default)]
struct SetClock(Arc<AtomicI64>);

impl Clock for SetClock {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + Duration::seconds(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_clock_that_is_set_loses_no_order() {
    let world = World::new().await;
    let clock = SetClock::default();
    clock.0.store(3_600, Ordering::SeqCst);
    let mut settings = settings(&world, 20);
    // The very first start is by the wrong clock too.
    settings.stream.first_since = String::new();
    settings.stream.overlap_ms = 5_000;
    settings.stream.cursor_lead_max_ms = 1_000;
    let receiver = start_by(settings, clock.clone()).await;
    for (order, set) in [(1_u32, 3_600), (2, -3_600), (3, 86_400), (4, 0)] {
        clock.0.store(set, Ordering::SeqCst);
        more_polls(&world, 3).await;
        let placed = text(OffsetDateTime::now_utc());
        let number = order.into();
        world.broker.show(&Event::filled("partial_fill", number, position(0, number), ("3", "10")).placed(&placed));
        world.logged(2 * usize::try_from(order).unwrap()).await;
    }
    receiver.stop().await;
}

#[tokio::test]
async fn one_order_of_a_far_future_does_not_hide_the_orders_until_then() {
    let world = World::new().await;
    let event = |order: u128, placed: &str| {
        world.broker.show(&Event::filled("partial_fill", order, position(0, order), ("3", "10")).placed(placed));
    };
    event(1, "2099-01-01T00:00:00Z");
    let receiver = world.receiver_with(settings(&world, 20)).await;
    world.logged(2).await;
    more_polls(&world, 3).await;
    event(2, &text(OffsetDateTime::now_utc()));
    world.logged(4).await;
    receiver.stop().await;
}

/// What persons see of falls: known and seen, without the order.
async fn falls(receiver: &Running) -> Vec<(String, String)> {
    let (_, suspects) = receiver.get("/ops/v1/suspects").await;
    let text = |suspect: &Value, field: &str| suspect[field].as_str().unwrap().split_once(' ').unwrap().1.to_owned();
    let suspects = suspects["suspects"].as_array().unwrap();
    assert!(suspects.iter().all(|suspect| suspect["reason"] == "filled_less"), "{suspects:?}");
    suspects.iter().map(|suspect| (text(suspect, "known"), text(suspect, "seen"))).collect()
}

fn fall(known: &str, seen: &str) -> (String, String) {
    (known.to_owned(), seen.to_owned())
}

#[tokio::test]
async fn a_quantity_that_falls_is_a_suspect_once_and_books_nothing() {
    let world = World::new().await;
    let placed = text(OffsetDateTime::now_utc());
    let show = |quantity: &str| {
        let event = Event::filled("partial_fill", 1, position(0, 1), (quantity, "10"));
        world.broker.show(&event.placed(&placed));
    };
    show("3");
    let receiver = world.receiver_with(settings(&world, 20)).await;
    world.logged(2).await;
    show("5");
    eventually("the rise", || async { fills(&world).await.len() == 2 }).await;
    // To the very bytes that were stored before.
    show("3");
    let five_to_three = fall("filled=5 for=50", "filled=3 for=30");
    eventually("the fall", || async { !falls(&receiver).await.is_empty() }).await;
    more_polls(&world, 5).await;
    assert_eq!(falls(&receiver).await, std::slice::from_ref(&five_to_three));
    show("2");
    eventually("a further fall", || async { falls(&receiver).await.len() == 2 }).await;
    show("4");
    more_polls(&world, 5).await;
    assert_eq!(falls(&receiver).await, [five_to_three, fall("filled=5 for=50", "filled=2 for=20")]);
    assert_eq!(fills(&world).await, figures(&[(3, "10"), (2, "10")]), "what fell is for a person to book");
    assert!(counted(&receiver, "fill_receiver_fallen_orders_total").await);
    // What rises above what is known is a fill again, and may fall again.
    show("6");
    eventually("the rise", || async { fills(&world).await.len() == 3 }).await;
    show("3");
    eventually("the next fall", || async { falls(&receiver).await.len() == 3 }).await;
    receiver.stop().await;
}

#[tokio::test]
async fn an_event_that_shows_less_of_an_ended_order_is_told_only_if_the_order_shows_less_when_it_is_asked_for() {
    let world = World::new().await;
    let old = "2020-01-01T00:00:00Z";
    let receiver = world.receiver_with(settings(&world, 20)).await;
    let told = |word: &str, age_ms: u64, quantity: &str| {
        Event::filled(word, 1, position(age_ms, age_ms.into()), (quantity, "10"))
    };
    world.broker.show(&told("filled", 0, "5").placed(old));
    world.broker.publish(&told("filled", 900, "5"));
    world.logged(2).await;
    more_polls(&world, 3).await;
    assert_eq!(world.broker.shown_alone(), Vec::<String>::new(), "an ended order is not asked for");
    // Late.
    world.broker.publish(&told("partial_fill", 800, "2"));
    eventually("the question", || async { !world.broker.shown_alone().is_empty() }).await;
    let settled = "select count(*) from cumulative_fills where doubts = 0 and not open";
    eventually("the answer", || async { world.count(settled).await == 1 }).await;
    assert_eq!(falls(&receiver).await, []);
    // Taken back.
    world.broker.show(&told("filled", 0, "3").placed(old));
    world.broker.publish(&told("partial_fill", 700, "3"));
    eventually("the fall", || async { !falls(&receiver).await.is_empty() }).await;
    eventually("the answer", || async { world.count(settled).await == 1 }).await;
    let alone = world.broker.shown_alone().len();
    more_polls(&world, 5).await;
    assert!(world.broker.shown_alone().len() <= alone + 1, "nobody asks for it again");
    assert_eq!(falls(&receiver).await, [fall("filled=5 for=50", "filled=3 for=30")]);
    assert_eq!(fills(&world).await, figures(&[(5, "10")]));
    receiver.stop().await;
}
