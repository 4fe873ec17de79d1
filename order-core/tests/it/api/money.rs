//! Money is spent once, with Redis and without.

use super::{Answer, ApiWorld, Customer, buy};
use futures_util::future::join_all;
use platform::testing::eventually;
use serde_json::json;
use std::time::Duration;

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

async fn spend(customers: &[Customer], orders: usize, price: &str) -> Vec<Answer> {
    let posts = (0..orders).map(|n| {
        let customer = &customers[n % customers.len()];
        async move { customer.post(&buy(&format!("c-{n}"), "1", price)).await }
    });
    join_all(posts).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_orders_that_only_together_exceed_the_cash_one_is_refused() {
    let world = ApiWorld::new().await;
    for _ in 0..5 {
        let customer = world.customer("1000").await;
        let answers = spend(std::slice::from_ref(&customer), 2, "600").await;
        assert_eq!((count(&answers, 200), count(&answers, 403)), (1, 1), "{answers:?}");
        assert_eq!(customer.account().await["buying_power"], "400");
    }
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_spenders_of_one_balance_never_overspend_without_redis() {
    let mut world = ApiWorld::new().await;
    let here = world.customer("1000").await;
    let copy = world.another().await;
    let customers = [here.clone(), here.at(&copy)];
    world.redis.stop();
    let answers = spend(&customers, 20, "100").await;
    assert_eq!((count(&answers, 200), count(&answers, 403)), (10, 10), "{answers:?}");
    let account = here.account().await;
    assert_eq!((&account["cash"], &account["buying_power"]), (&json!("1000"), &json!("0")));
    let health = world.health().await;
    assert_eq!(health["locks"]["breaker"], "open", "{health}");
    assert!(health["degraded"].to_string().contains("account locks"), "{health}");
    world.audit().await;
    world.redis.start_again();
    let back = eventually(Duration::from_secs(20), || async { world.health().await["locks"]["breaker"] == "closed" });
    assert!(back.await, "the lock came back by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_delays_orders_and_refuses_none() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    world.redis.pause();
    let answers = spend(std::slice::from_ref(&customer), 10, "100").await;
    assert_eq!(count(&answers, 200), 10, "{answers:?}");
    world.redis.resume();
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_accounts_at_once_are_all_served() {
    let world = ApiWorld::new().await;
    let customers = join_all((0..20).map(|_| world.customer("1000"))).await;
    let answers = spend(&customers, 100, "100").await;
    assert_eq!(count(&answers, 200), 100, "{answers:?}");
    assert_eq!(world.count("select count(*) from orders where hold_cash = 100").await, 100);
    world.audit().await;
}
