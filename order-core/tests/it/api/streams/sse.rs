//! Server-sent events: replay at every cursor, the way from replay to live, ends.

use super::*;
use contracts::event::BrokerFact;
use contracts::{ExecutionId, Price, Quantity};
use rust_decimal::Decimal;

async fn refused(customer: &Customer, query: &str) -> (u16, String) {
    let answer = customer.get(&format!("/v2/events/trades{query}")).await;
    assert_eq!(answer.body["code"], 40_010_001, "{answer:?}");
    (answer.status, answer.body["message"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_refused_ends_no_stream_of_its_key() {
    let world = ApiWorld::with(|settings| settings.stream.connections_per_key_max = 1).await;
    let customer = world.customer("1000").await;
    let mut live = Events::open(&customer, "").await;
    let unknown = refused(&customer, "?since_id=01JZ0000000000000000000001").await;
    assert_eq!(unknown.0, 422);
    place(&customer, "seen").await;
    assert_eq!(words(&live.take(1).await), ["pending_new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_an_order_is_told_once_and_in_order() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let (facts, account) = (Facts::of(&world), customer.account_id);
    let mut live = Events::open(&customer, "").await;
    let order = place(&customer, "steps").await;
    facts.gateway(account, &[acknowledged(order, "b-1")]).await;
    let fact = |cumulative, fact| broker_event(Some(order), "b-1", cumulative, fact);
    facts.broker(account, &[fact("1", fill("e-1", "1", "50.25"))]).await;
    assert_eq!(customer.delete(&format!("/v2/orders/{order}")).await.status, 204);
    facts.broker(account, &[fact("1", BrokerFact::CancelRejected), fact("2", fill("e-2", "1", "50.75"))]).await;
    let previous = ExecutionId::new("e-1").unwrap();
    let correct = BrokerFact::Correct {
        execution_id: ExecutionId::new("c-1").unwrap(),
        previous_execution_id: previous,
        quantity: Quantity::parse("1").unwrap(),
        price: Price::parse("50").unwrap(),
    };
    let bust = BrokerFact::Bust {
        execution_id: ExecutionId::new("b-1").unwrap(),
        previous_execution_id: ExecutionId::new("e-2").unwrap(),
    };
    facts.broker(account, &[fact("2", correct), fact("2", bust)]).await;
    let told = live.take(8).await;
    assert_eq!(
        words(&told),
        [
            "pending_new",
            "new",
            "partial_fill",
            "pending_cancel",
            "order_cancel_rejected",
            "fill",
            "trade_correct",
            "trade_bust"
        ]
    );
    let statuses: Vec<_> = told.iter().map(|event| event.order.status.to_string()).collect();
    assert_eq!(
        statuses,
        ["pending_new", "new", "partially_filled", "pending_cancel", "partially_filled", "filled", "filled", "filled"]
    );
    assert_eq!(numbers(&told), [1, 2, 3, 4, 5, 6, 7, 8]);
    let [.., part, _, _, full, corrected, busted] = told.as_slice() else { panic!("{told:?}") };
    let (one, two) = (Some(Decimal::ONE), Some(Decimal::TWO));
    assert_eq!((part.qty, part.position_qty, part.order.filled_qty), (one, one, Decimal::ONE));
    assert_eq!((full.qty, full.position_qty, full.order.filled_qty), (one, two, Decimal::TWO));
    assert_eq!(full.order.filled_avg_price, Some(Decimal::new(505, 1)));
    assert_eq!(full.timestamp, Some(OffsetDateTime::UNIX_EPOCH), "an execution has the broker's time");
    assert_eq!(corrected.previous_execution_id, part.execution_id);
    assert_eq!(corrected.order.filled_avg_price, Some(Decimal::new(50_375, 3)));
    assert_eq!((busted.qty, busted.price), (Some(Decimal::NEGATIVE_ONE), Some(Decimal::new(5075, 2))));
    assert_eq!(busted.previous_execution_id, full.execution_id);
    assert_eq!((busted.position_qty, busted.order.filled_qty), (one, Decimal::ONE));
    assert_eq!(told.last().unwrap().order.client_order_id, "steps");
    // Replayed, it is the same to the last figure.
    let mut replay = Events::open(&customer, &format!("?since_id={START}&until_id={}", busted.event_id)).await;
    assert_eq!(replay.rest().await, told);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_at_any_cursor_misses_nothing_and_sees_nothing_twice() {
    let world = ApiWorld::with(|settings| settings.stream.page_len_max = 3).await;
    let customer = world.customer("10000").await;
    let facts = Facts::of(&world);
    for n in 0..3 {
        let order = place(&customer, &format!("c-{n}")).await;
        facts.fill(customer.account_id, order, &format!("b-{n}")).await;
    }
    let all = Events::open(&customer, &format!("?since_id={START}")).await.take(12).await;
    assert_eq!(numbers(&all), (1..=12).collect::<Vec<_>>());
    let ids: Vec<&str> = all.iter().map(|event| event.event_id.as_str()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    for (at, event) in all.iter().enumerate() {
        for until in &all[at..] {
            let query = format!("?since_id={}&until_id={}", event.event_id, until.event_id);
            let rest = Events::open(&customer, &query).await.rest().await;
            let end = all.iter().position(|other| other == until).unwrap();
            assert_eq!(rest, all[at + 1..=end]);
        }
        let since = event.at.unwrap().format(&time::format_description::well_known::Rfc3339).unwrap();
        let first = all.iter().position(|other| other.at >= event.at).unwrap();
        let by_time = Events::open(&customer, &format!("?since={since}")).await.take(12 - first).await;
        assert_eq!(by_time, all[first..]);
    }
    // A clock that is ahead of ours asks from now on, and loses nothing.
    let tomorrow = OffsetDateTime::now_utc().date().next_day().unwrap();
    let mut from_now = Events::open(&customer, &format!("?since={tomorrow}")).await;
    place(&customer, "later").await;
    assert_eq!(numbers(&from_now.take(1).await), [13]);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_from_replay_to_live_without_a_hole_while_orders_come_in() {
    let world = ApiWorld::with(|settings| {
        settings.stream.page_len_max = 5;
        settings.stream.connections_per_key_max = 500;
    })
    .await;
    let customer = world.customer("100000").await;
    let placing = tokio::spawn({
        let customer = customer.clone();
        async move {
            for n in 0..150 {
                place(&customer, &format!("c-{n}")).await;
            }
        }
    });
    let mut readers = Vec::new();
    while !placing.is_finished() {
        let customer = customer.clone();
        let mut events = Events::open(&customer, &format!("?since_id={START}")).await;
        if readers.len() < 3 {
            readers.push(tokio::spawn(async move { numbers(&events.take(150).await) }));
        } else {
            let got = numbers(&events.take(1).await);
            assert_eq!(got, [1]);
        }
    }
    placing.await.unwrap();
    assert!(!readers.is_empty());
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (1..=150).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_copy_commits_arrives_and_what_was_committed_before_a_crash_is_not_lost() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let other = world.another().await;
    let there = customer.at(&other);
    let mut live = Events::open(&there, "").await;
    let order = place(&customer, "one").await;
    let first = live.take(1).await;
    assert_eq!(words(&first), ["pending_new"]);
    // A copy that dies after its commit has told nobody; the rows are there all the same.
    other.stop().await;
    Facts::of(&world).fill(customer.account_id, order, "b-1").await;
    let third = world.another().await;
    let again = customer.at(&third);
    let rest = Events::open(&again, &format!("?since_id={}", first[0].event_id)).await.take(3).await;
    assert_eq!(words(&rest), ["new", "partial_fill", "fill"]);
    assert_eq!(numbers(&rest), [2, 3, 4]);
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_an_end_ends_and_its_rules_are_told_by_name() {
    let world = ApiWorld::with(|settings| settings.stream.settle_ms = 0).await;
    let (customer, other) = (world.customer("1000").await, world.customer("1000").await);
    let before = OffsetDateTime::now_utc();
    place(&customer, "one").await;
    place(&other, "one").await;
    let theirs = Events::open(&other, &format!("?since_id={START}")).await.take(1).await;
    let mine = Events::open(&customer, &format!("?since_id={START}")).await.take(1).await;
    let stamp = |at: OffsetDateTime| at.format(&time::format_description::well_known::Rfc3339).unwrap();
    let until = OffsetDateTime::now_utc();
    let mut ended = Events::open(&customer, &format!("?since={}&until={}", stamp(before), stamp(until))).await;
    assert_eq!(ended.rest().await, mine);
    let day = "2020-01-01";
    assert_eq!(Events::open(&customer, &format!("?since={day}&until={day}")).await.rest().await, []);
    for query in [
        format!("?since_id={}", theirs[0].event_id),
        "?since_id=01JZ0000000000000000000001".to_owned(),
        "?since_id=17".to_owned(),
        "?until=2026-07-01".to_owned(),
        format!("?until_id={}", mine[0].event_id),
        format!("?since={day}&since_id={}", mine[0].event_id),
        "?since=yesterday".to_owned(),
    ] {
        let (status, message) = refused(&customer, &query).await;
        assert_eq!(status, 422, "{query}: {message}");
    }
    let bare = world.client.get(format!("http://{}/v2/events/trades", world.copy.api_addr));
    assert_eq!(super::super::send(bare).await.failed_with(), (401, 40_110_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_a_newer_stream_and_a_stop_end_a_stream_and_say_so() {
    let world = ApiWorld::with(|settings| settings.stream.connections_per_key_max = 2).await;
    let customer = world.customer("1000").await;
    let mut oldest = Events::open(&customer, "").await;
    let _second = Events::open(&customer, "").await;
    let mut newest = Events::open(&customer, "").await;
    assert_eq!(oldest.next().await, None);
    assert!(oldest.comments.last().unwrap().contains("newer streams"), "{:?}", oldest.comments);
    revoke(&world, &customer).await;
    assert_eq!(newest.next().await, None);
    assert!(newest.comments.last().unwrap().contains("no longer valid"), "{:?}", newest.comments);
    let another = world.another().await;
    let customer = world.customer("1000").await;
    let mut open = Events::open(&customer.at(&another), "").await;
    another.stop().await;
    assert_eq!(open.next().await, None);
    assert!(open.comments.last().unwrap().contains("going away"), "{:?}", open.comments);
}
