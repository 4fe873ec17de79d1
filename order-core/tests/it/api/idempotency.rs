//! One request, however often it comes.

use super::{ApiWorld, buy};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_order_posted_a_hundred_times_at_once_to_two_copies_makes_one() {
    let world = ApiWorld::new().await;
    let customer = world.customer("10000").await;
    let copy = world.another().await;
    let there = customer.at(&copy);
    let body = buy("same", "1", "100");
    let answers = join_all((0..100).map(|n| if n % 2 == 0 { customer.post(&body) } else { there.post(&body) })).await;
    let first = answers[0].id().to_owned();
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.id() == first));
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert_eq!(world.count("select count(*) from orders").await, 1);
    assert_eq!(world.count("select count(*) from event_log").await, 1);
    assert_eq!(customer.account().await["buying_power"], "9900");
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_name_with_other_terms_is_a_duplicate() {
    let world = ApiWorld::new().await;
    let customer = world.customer("10000").await;
    assert_eq!(customer.post(&buy("c-1", "1", "100")).await.status, 200);
    let duplicate = customer.post(&buy("c-1", "2", "100")).await;
    assert_eq!(duplicate.failed_with(), (422, 40_010_001));
    assert_eq!(duplicate.body["message"], "client_order_id must be unique");
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_under_a_clients_name_is_given_again_even_when_it_could_be_taken_by_now() {
    let world = ApiWorld::new().await;
    let customer = world.customer("10").await;
    let refused = customer.post(&buy("c-1", "1", "100")).await;
    assert_eq!((refused.failed_with(), refused.replayed), ((403, 40_310_000), false));
    let deposit = json!({"amount": "1000", "currency": "USD", "reference": "more"});
    let path = format!("/ops/v1/accounts/{}/deposits", customer.account_id);
    assert_eq!(world.ops(Method::POST, &path, &deposit).await.status, 200);
    let again = customer.post(&buy("c-1", "1", "100")).await;
    assert_eq!((again.failed_with(), again.replayed), ((403, 40_310_000), true));
    assert_eq!(again.body["message"], refused.body["message"]);
    assert_eq!(customer.post(&buy("c-2", "1", "100")).await.status, 200);
    world.audit().await;
}
