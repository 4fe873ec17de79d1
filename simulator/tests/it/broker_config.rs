//! The settings of the simulated broker as a process, and what it shows of itself.

use crate::broker_support::{client, market};
use platform::testing::{TestProcess, eventually, scrape_faults};
use simulator::broker::metrics::OWN;

const PROGRAM: &str = env!("CARGO_BIN_EXE_broker-sim");
const GOOD: [(&str, &str); 6] = [
    ("BROKER_SIM__ADDR", "127.0.0.1:0"),
    ("BROKER_SIM__KEY_ID", "planted-key-id"),
    ("BROKER_SIM__SECRET_KEY", "planted-broker-secret"),
    ("BROKER_SIM__ACCOUNT_ID", "a7e7c1f2-0000-4000-8000-000000000001"),
    ("BROKER_SIM__PUSH_KEY_ID", "push-1"),
    ("BROKER_SIM__PUSH_SECRET", "planted-push-secret"),
];
const SECRETS: [&str; 2] = ["planted-broker-secret", "planted-push-secret"];

async fn said(arguments: &[&str], more: &[(&str, &str)]) -> String {
    let variables: Vec<_> = GOOD.iter().chain(more).copied().collect();
    TestProcess::start(PROGRAM, arguments, &variables).until_ended().await
}

#[tokio::test]
async fn what_is_no_setting_is_refused_by_name_before_it_listens() {
    for (arguments, variables, name) in [
        (&[][..], &[("BROKER_SIM__KEYID", "x")][..], "BROKER_SIM__KEYID"),
        (&["check-config"], &[("BROKER_SIM__PUSH_SECRETS", "x")], "BROKER_SIM__PUSH_SECRETS"),
        (&["--key"], &[], "--key"),
        (&[], &[("BROKER_SIM__SEED", "many")], "--seed"),
        (&[], &[("BROKER_SIM__MARKET_HOURS", "never")], "--market-hours"),
        (&["run"], &[], "run"),
    ] {
        let said = said(arguments, variables).await;
        assert!(said.contains(name) && !said.contains("listens"), "{arguments:?} {variables:?}: {said}");
        assert!(!SECRETS.iter().any(|secret| said.contains(secret)), "{said}");
    }
}

#[tokio::test]
async fn check_config_shows_every_setting_with_its_origin_and_no_secret() {
    let said = said(&["--seed", "7", "check-config"], &[]).await;
    for line in [
        "BROKER_SIM__ADDR = \"127.0.0.1:0\"  # environment",
        "BROKER_SIM__SEED = \"7\"  # command line",
        "BROKER_SIM__EVENTS_RETAINED_MAX = \"1000000\"  # default",
        "BROKER_SIM__SECRET_KEY = \"***\"  # environment",
        "BROKER_SIM__PUSH_SECRET = \"***\"  # environment",
        "BROKER_SIM__PUSH_URL = \"\"  # default",
    ] {
        assert!(said.lines().any(|other| other == line), "{line} is missing: {said}");
    }
    assert!(!SECRETS.iter().any(|secret| said.contains(secret)), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_explains_every_metric_that_it_shows_and_writes_no_secret() {
    let variables: Vec<_> =
        GOOD.into_iter().chain([("RUST_LOG", "trace"), ("BROKER_SIM__PUSH_URL", "http://127.0.0.1:9/push")]).collect();
    let mut broker = TestProcess::start(PROGRAM, &[], &variables);
    let log = broker.until_said("the broker listens").await;
    let line = log.lines().find(|line| line.contains("the broker listens")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let base = format!("http://{}", line["addr"].as_str().unwrap());
    let orders = format!("{base}/v1/trading/accounts/{}/orders", GOOD[3].1);
    let client = client();
    let order = market("k-1", "1");
    let placed = client.post(&orders).basic_auth(GOOD[1].1, Some(GOOD[2].1)).json(&order).send().await.unwrap();
    assert!(placed.status().is_success());
    let counted = eventually(std::time::Duration::from_secs(20), || async {
        let page = client.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
        let faults = scrape_faults(&page, &[&OWN]);
        assert!(faults.is_empty(), "{faults:#?}");
        page.contains("sim_requests_total{service=\"broker-sim\",route=\"/v1/trading/accounts/{account_id}/orders\"")
    });
    assert!(counted.await, "the request was not counted");
    broker.until_said("a push was not answered").await;
    let log = broker.kill().await;
    assert!(!SECRETS.iter().any(|secret| log.contains(secret)), "{log}");
}
