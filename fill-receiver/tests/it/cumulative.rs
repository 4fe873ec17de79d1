//! A broker that tells no executions: fills are what its orders' cumulative figures rise by.

use crate::broker::{Event, position};
use crate::harness::{World, eventually};
use contracts::event::BrokerFact;
use fill_receiver::config::{ExecutionsWord, Settings};
use rust_decimal::Decimal;

/// A poll at the start and no other.
pub(crate) const FAR: u64 = 3_600_000;

pub(crate) fn settings(world: &World, interval_ms: u64) -> Settings {
    let mut settings = world.settings();
    settings.broker.executions = ExecutionsWord::Cumulative;
    settings.broker.account_id = "a-1".to_owned();
    settings.poll.interval_ms = interval_ms;
    settings.poll.page_len = 3;
    settings
}

pub(crate) fn text(moment: time::OffsetDateTime) -> String {
    moment.format(&time::format_description::well_known::Rfc3339).unwrap()
}

/// Quantity and price of each fill in the log, in its order.
pub(crate) async fn fills(world: &World) -> Vec<(Decimal, Decimal)> {
    let events = world.events().await;
    let figures = |fact| match fact {
        BrokerFact::Fill { quantity, price, .. } => Some((quantity.value(), price.value())),
        _ => None,
    };
    events.into_iter().filter_map(|event| figures(event.fact)).collect()
}

pub(crate) fn figures(list: &[(i64, &str)]) -> Vec<(Decimal, Decimal)> {
    list.iter().map(|(quantity, price)| (Decimal::from(*quantity), price.parse().unwrap())).collect()
}

#[tokio::test]
async fn an_increase_is_one_fill_however_often_and_in_whatever_order_it_is_told() {
    let world = World::new().await;
    let receiver = world.receiver_with(settings(&world, FAR)).await;
    let told =
        |place: u64, filled| Event::filled("partial_fill", 1, position(1_000 - place, u128::from(place)), filled);
    world.broker.publish(&told(1, ("2", "10")));
    world.broker.publish_all(&[told(2, ("4", "10")), told(3, ("2", "10")), told(4, ("4", "10"))]);
    world.broker.publish(&Event::filled("canceled", 1, position(990, 9), ("5", "10.02")));
    // Five states, and what lay between them.
    world.logged(5 + 3).await;
    assert_eq!(fills(&world).await, figures(&[(2, "10"), (2, "10"), (1, "10.1")]));
    let events = world.events().await;
    assert_eq!(events.last().unwrap().fact, BrokerFact::Canceled, "the fill comes before the end that showed it");
    assert_eq!(world.count("select count(*) from broker_events where kind = 'fill'").await, 3);
    assert_eq!(world.count("select count(*) from parked").await, 0);
    receiver.stop().await;
}

#[tokio::test]
async fn other_money_for_the_same_shares_is_for_a_person_and_adds_nothing() {
    let world = World::new().await;
    let receiver = world.receiver_with(settings(&world, FAR)).await;
    world.broker.publish(&Event::filled("partial_fill", 1, position(900, 1), ("2", "10")));
    world.broker.publish(&Event::filled("partial_fill", 1, position(800, 2), ("2", "11")));
    world.broker.publish(&Event::filled("partial_fill", 1, position(700, 3), ("3", "10")));
    world.logged(3 + 2).await;
    assert_eq!(fills(&world).await, figures(&[(2, "10"), (1, "10")]));
    assert_eq!(world.count("select count(*) from suspects where reason = 'terms_differ'").await, 1);
    receiver.stop().await;
}

#[tokio::test]
async fn copies_that_see_the_same_increase_by_stream_and_by_asking_derive_it_once() {
    let world = World::new().await;
    let receivers = [world.receiver_with(settings(&world, 5)).await, crate::harness::start(settings(&world, 5)).await];
    let placed = text(time::OffsetDateTime::now_utc());
    for filled in 1..=20_u64 {
        let event =
            Event::filled("partial_fill", 1, position(2_000 - filled, u128::from(filled)), (&filled.to_string(), "10"));
        let event = event.placed(&placed);
        world.broker.show(&event);
        world.broker.publish(&event);
    }
    let total = || async { fills(&world).await.iter().map(|(quantity, _)| *quantity).sum::<Decimal>() };
    eventually("everything is filled", || async { total().await >= Decimal::from(20) }).await;
    let listed = world.broker.listed();
    eventually("three more polls", || async { world.broker.listed() >= listed + 3 }).await;
    assert_eq!(total().await, Decimal::from(20));
    for receiver in receivers {
        receiver.stop().await;
    }
}

#[tokio::test]
async fn an_average_that_cannot_tell_the_money_waits_for_a_person() {
    let world = World::new().await;
    let mut coarse = settings(&world, FAR);
    coarse.broker.average_decimals = 4;
    let receiver = world.receiver_with(coarse).await;
    world.broker.publish(&Event::filled("partial_fill", 1, position(900, 1), ("3", "10.0167")));
    eventually("parked", || async { world.count("select count(*) from parked").await == 1 }).await;
    let (_, parked) = receiver.get("/ops/v1/parked").await;
    assert!(parked.to_string().contains("too coarse"), "{parked}");
    assert_eq!(fills(&world).await, []);
    receiver.stop().await;
}
