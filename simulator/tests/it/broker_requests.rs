//! What a client of the broker sees of its requests.

use contracts::alpaca::{ApiError, AssetEntity, LatestTrades, OrderEntity, OrderStatus};
use reqwest::StatusCode;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use std::time::Duration;

use crate::broker_support::{ACCOUNT, Broker, KEY_ID, SECRET, json_of, market, resting};

#[tokio::test]
async fn order_can_be_placed_found_listed_and_cancelled() {
    let broker = Broker::start().await;
    let placed: OrderEntity = json_of(broker.submit(&resting("k1")).await.unwrap()).await;
    let found: OrderEntity = json_of(broker.lookup("k1").await).await;
    assert_eq!(found.id, placed.id);
    let path = format!("{}/{}", Broker::orders_path(), placed.id);
    let by_id: OrderEntity = json_of(broker.get(&path).send().await.unwrap()).await;
    assert_eq!(by_id, found);
    let listed: Vec<OrderEntity> = json_of(broker.get(&Broker::orders_path()).send().await.unwrap()).await;
    assert_eq!(listed, [found]);
    assert_eq!(broker.cancel(&placed).await.unwrap().status(), StatusCode::NO_CONTENT);
    loop {
        let order: OrderEntity = json_of(broker.lookup("k1").await).await;
        if order.status == OrderStatus::Canceled {
            break;
        }
        assert_eq!(order.status, OrderStatus::PendingCancel);
        tokio::task::yield_now().await;
    }
    assert_eq!(broker.cancel(&placed).await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
    broker.shutdown().await;
}

#[tokio::test]
async fn duplicate_key_is_refused_and_the_original_can_be_found() {
    let broker = Broker::start().await;
    broker.submit(&market("k1", "1.5")).await.unwrap();
    let answer = broker.submit(&market("k1", "1.5")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(json_of::<ApiError>(answer).await.is_duplicate_client_order_id());
    let order: OrderEntity = json_of(broker.lookup("k1").await).await;
    assert_eq!((order.status, order.filled_qty), (OrderStatus::Filled, Decimal::new(15, 1)));
    let missing = broker.lookup("k2").await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert_eq!(json_of::<ApiError>(missing).await.code, 40_410_000);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_hundred_equal_posts_at_once_make_one_order() {
    let broker = Broker::start().await;
    let order = market("k1", "1");
    let posts = (0..100).map(|_| broker.submit(&order));
    let answers = futures_util::future::join_all(posts).await;
    let accepted = answers.iter().filter(|answer| answer.as_ref().unwrap().status() == StatusCode::OK).count();
    assert_eq!(accepted, 1);
    assert_eq!(broker.oracle("orders", "").await["orders"].as_array().unwrap().len(), 1);
    broker.shutdown().await;
}

#[tokio::test]
async fn wrong_or_missing_key_is_unauthorized_and_allowance_is_on_every_answer() {
    let broker = Broker::start().await;
    let bare = broker.client.get(broker.url("/v1/assets")).send().await.unwrap();
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    assert!(bare.headers().contains_key("x-ratelimit-remaining"));
    let body: Value = json_of(bare).await;
    assert!(body["message"].is_string() && body.get("code").is_none());
    let wrong = broker.client.get(broker.url("/v1/assets")).basic_auth(KEY_ID, Some("x")).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let right = broker.client.get(broker.url("/v1/assets")).basic_auth(KEY_ID, Some(SECRET)).send().await.unwrap();
    assert_eq!(right.status(), StatusCode::OK);
    assert!(right.headers().contains_key("x-ratelimit-limit"));
    assert_eq!(json_of::<Vec<AssetEntity>>(right).await.len(), 12);
    broker.shutdown().await;
}

#[tokio::test]
async fn requests_above_the_limit_are_429_without_effect() {
    let broker = Broker::start().await;
    broker.configure(json!({"requests_per_minute": 1})).await;
    let mut statuses = Vec::new();
    for n in 0..5 {
        statuses.push(broker.submit(&market(&format!("k{n}"), "1")).await.unwrap().status());
    }
    let refused = statuses.iter().filter(|status| **status == StatusCode::TOO_MANY_REQUESTS).count();
    // A minute may turn in the middle.
    assert!(refused >= 3, "{statuses:?}");
    let orders = broker.oracle("orders", "").await["orders"].as_array().unwrap().len();
    assert_eq!(orders, 5 - refused);
    broker.shutdown().await;
}

#[tokio::test]
async fn last_prices_are_decimal_texts_and_move_with_the_steps() {
    let broker = Broker::start().await;
    let path = "/v2/stocks/trades/latest?symbols=AAPL,KO,NONE";
    let before: LatestTrades = json_of(broker.get(path).send().await.unwrap()).await;
    assert_eq!(before.trades["AAPL"].price, Decimal::new(18_712, 2));
    assert_eq!(before.trades.len(), 2);
    broker.operate("/sim/v1/ticks", json!({"count": 500})).await;
    let after: LatestTrades = json_of(broker.get(path).send().await.unwrap()).await;
    assert_ne!(after.trades["AAPL"].price, before.trades["AAPL"].price);
    broker.shutdown().await;
}

#[tokio::test]
async fn closed_connection_says_nothing_of_the_effect() {
    let broker = Broker::start().await;
    for (kind, effect) in [("drop_before_receipt", false), ("drop_reply", true), ("half_body", true)] {
        broker.fault(json!({"client_order_id": kind, "fault": kind})).await;
        let answer = broker.submit(&market(kind, "1")).await;
        let broken = match answer {
            Err(_) => true,
            Ok(answer) => answer.bytes().await.is_err(),
        };
        assert!(broken, "{kind}");
        assert_eq!(broker.lookup(kind).await.status() == StatusCode::OK, effect, "{kind}");
        assert_eq!(broker.hits(kind).await, 1);
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn unanswered_request_ends_with_the_client_and_was_carried_out() {
    let broker = Broker::start().await;
    broker.fault(json!({"match": "all", "fault": "never_answer"})).await;
    let request = broker.client.post(broker.url(&Broker::orders_path())).basic_auth(KEY_ID, Some(SECRET));
    let answer = request.json(&market("k1", "1")).timeout(Duration::from_millis(200)).send().await;
    assert!(answer.unwrap_err().is_timeout());
    assert_eq!(broker.lookup("k1").await.status(), StatusCode::OK);
    broker.shutdown().await;
}

#[tokio::test]
async fn html_and_nonsense_are_not_orders() {
    let broker = Broker::start().await;
    broker.fault(json!({"client_order_id": "k1", "fault": "html"})).await;
    let answer = broker.submit(&market("k1", "1")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(answer.text().await.unwrap().starts_with("<html>"));
    broker.fault(json!({"client_order_id": "k2", "fault": "nonsense"})).await;
    let answer = broker.submit(&market("k2", "1")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(serde_json::from_slice::<OrderEntity>(&answer.bytes().await.unwrap()).is_err());
    broker.shutdown().await;
}

#[tokio::test]
async fn order_recorded_late_is_unknown_then_known_and_its_key_is_never_free() {
    let broker = Broker::start().await;
    broker.fault(json!({"client_order_id": "k1", "fault": "record_late", "delay_ms": 400})).await;
    assert!(broker.submit(&market("k1", "1")).await.is_err());
    assert_eq!(broker.lookup("k1").await.status(), StatusCode::NOT_FOUND);
    let again = broker.submit(&market("k1", "1")).await.unwrap();
    assert!(json_of::<ApiError>(again).await.is_duplicate_client_order_id());
    while broker.lookup("k1").await.status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(broker.oracle("orders", "").await["orders"].as_array().unwrap().len(), 1);
    broker.shutdown().await;
}

#[tokio::test]
async fn fault_by_match_waits_for_the_next_fitting_order() {
    let broker = Broker::start().await;
    broker.fault(json!({"match": {"symbol": "AAPL", "qty": "7"}, "fault": "reject", "times": 1})).await;
    assert_eq!(broker.submit(&market("k1", "1")).await.unwrap().status(), StatusCode::OK);
    let refused = broker.submit(&market("k2", "7")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(json_of::<ApiError>(refused).await.code, 40_310_000);
    assert_eq!(broker.submit(&market("k3", "7")).await.unwrap().status(), StatusCode::OK);
    for bad in [
        json!({"fault": "reject"}),
        json!({"fault": "reject", "match": "some"}),
        json!({"fault": "reject", "match": "all", "client_order_id": "x"}),
        json!({"fault": "stream_reset", "match": "all", "on": "submit"}),
        json!({"fault": "drop_reply", "client_order_id": "x", "until_ms": 5, "from_ms": 9}),
        json!({"fault": "record_late", "match": "all", "on": "cancel"}),
        json!({"fault": "unheard_of", "match": "all"}),
        json!({"fault": "reject", "match": "all", "times": 0}),
    ] {
        let answer = broker.operate("/sim/v1/faults", bad.clone()).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn oracle_pages_through_all_orders_and_executions_once() {
    let broker = Broker::start().await;
    for n in 0..25 {
        broker.submit(&market(&format!("k{n}"), "2")).await.unwrap();
    }
    for what in ["orders", "executions"] {
        let (mut seen, mut query) = (Vec::new(), "limit=10".to_owned());
        loop {
            let page = broker.oracle(what, &query).await;
            for row in page[what].as_array().unwrap() {
                seen.push(row["client_order_id"].as_str().unwrap().to_owned());
            }
            let Some(after) = page["next_after"].as_u64() else { break };
            query = format!("limit=10&after={after}");
        }
        let expected: Vec<String> = (0..25).map(|n| format!("k{n}")).collect();
        assert_eq!(seen, expected, "{what}");
    }
    let order = &broker.oracle("orders", "limit=1").await["orders"][0];
    assert_eq!((&order["status"], &order["filled_qty"]), (&json!("filled"), &json!("2")));
    assert_eq!(order["executions"][0]["price"], "187.12");
    assert_eq!(order["account_id"], ACCOUNT);
    broker.shutdown().await;
}

#[tokio::test]
async fn body_that_is_too_large_or_no_order_is_refused() {
    let broker = Broker::start().await;
    let huge = json!({"symbol": "x".repeat(100_000)});
    assert_eq!(broker.submit(&huge).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    let answer = broker.submit(&json!([])).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(json_of::<ApiError>(answer).await.code, 40_010_001);
    let path = format!("{}?status=some", Broker::orders_path());
    assert_eq!(broker.get(&path).send().await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(broker.get("/v1/nothing").send().await.unwrap().status(), StatusCode::NOT_FOUND);
    broker.shutdown().await;
}
