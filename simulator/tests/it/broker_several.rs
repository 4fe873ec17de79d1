//! Several brokers in one process.

use platform::testing::TestProcess;
use serde_json::{Value, json};

use crate::broker_support::{client, json_of, market};

const PROGRAM: &str = env!("CARGO_BIN_EXE_broker-sim");

#[tokio::test(flavor = "multi_thread")]
async fn one_process_runs_brokers_of_different_profiles_beside_each_other() {
    let arguments =
        ["--addr", "127.0.0.1:0", "--broker", "night=blind@127.0.0.1:0", "--broker", "sub=lookup_only@127.0.0.1:0"];
    let mut process = TestProcess::start(PROGRAM, &arguments, &[]);
    let log = process.until_said("\"name\":\"sub\"").await;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let bases: Vec<(String, String)> = lines
        .filter_map(|line| {
            let name = line.get("name")?.as_str()?.to_owned();
            Some((name, format!("http://{}", line.get("addr")?.as_str()?)))
        })
        .collect();
    let names: Vec<&str> = bases.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["main", "night", "sub"]);

    let client = client();
    let mut orders = Vec::new();
    for (_, base) in &bases {
        for _ in 0..2 {
            let request = client.post(format!("{base}/v2/orders")).json(&market("k1", "1"));
            request
                .header("apca-api-key-id", "sim-key")
                .header("apca-api-secret-key", "sim-secret")
                .send()
                .await
                .unwrap();
        }
        let truth: Value = json_of(client.get(format!("{base}/sim/v1/oracle/orders")).send().await.unwrap()).await;
        orders.push(truth["orders"].as_array().unwrap().len());
    }
    // The same key twice: one order where keys are enforced, two where they are not, each in its own book.
    assert_eq!(json!(orders), json!([1, 2, 2]));
    process.kill().await;
}

#[tokio::test]
async fn a_broker_that_is_not_written_right_is_refused() {
    for bad in ["night", "night=generous@127.0.0.1:0", "night=blind", "=blind@127.0.0.1:0", "a/b=blind@127.0.0.1:0"] {
        let said = TestProcess::start(PROGRAM, &["--broker", bad], &[]).until_ended().await;
        assert!(said.contains("NAME=PROFILE@ADDRESS"), "{bad}: {said}");
    }
}
