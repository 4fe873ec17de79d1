//! Layers point one way: adapters, application, domain, contracts. Read from the sources, so that a
//! wrong import fails here and not in a review.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test that cannot read the sources has failed")]

use std::fs;
use std::path::{Path, PathBuf};

const PROCESSES: [&str; 3] = ["order-core", "broker-gateway", "fill-receiver"];

/// Runtimes and drivers: none of them below the adapters, but for the tokio that the use cases run
/// their workers on.
const DRIVERS: [&str; 8] = ["sqlx", "redis", "reqwest", "axum", "hyper", "tower", "tower_http", "backoff"];

/// What makes a function's answer depend on more than its arguments.
const IMPURE: [&str; 10] = [
    "now_utc",
    "now_local",
    "Instant::now",
    "SystemTime",
    "now_v7",
    "new_v4",
    "rand::",
    "thread_rng",
    "std::fs",
    "std::env",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(path: &Path, found: &mut Vec<(PathBuf, String)>) {
    if path.is_file() {
        found.push((path.to_owned(), code_of(&fs::read_to_string(path).unwrap())));
    } else if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() || path.extension().is_some_and(|e| e == "rs") {
                sources(&path, found);
            }
        }
    }
}

/// The text without comments and without what only tests see.
fn code_of(text: &str) -> String {
    let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = production.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The sources of a layer: `src/<layer>.rs` and everything below `src/<layer>/`.
fn layer(process: &str, layer: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for path in [format!("{process}/src/{layer}.rs"), format!("{process}/src/{layer}")] {
        sources(&root().join(path), &mut found);
    }
    assert!(!found.is_empty(), "{process} has no layer {layer}: this test would see nothing");
    found
}

fn uses(code: &str, name: &str) -> bool {
    let boundary = |c: char| !c.is_alphanumeric() && c != '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        before.is_none_or(boundary) && (name.ends_with("::") || after.starts_with("::") || after.starts_with(boundary))
    })
}

fn refuse(files: &[(PathBuf, String)], names: &[&str]) {
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|(path, code)| {
            names.iter().filter(|name| uses(code, name)).map(move |name| format!("{} uses {name}", path.display()))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_domain_is_pure() {
    for process in PROCESSES {
        let files = layer(process, "domain");
        refuse(&files, &DRIVERS);
        refuse(&files, &["tokio", "platform", "crate::application", "crate::adapters", "async_trait"]);
        refuse(&files, &IMPURE);
    }
}

#[test]
fn use_cases_know_no_driver_and_no_adapter() {
    for process in PROCESSES {
        let files = layer(process, "application");
        refuse(&files, &DRIVERS);
        refuse(&files, &["crate::adapters"]);
    }
}

#[test]
fn sql_is_written_only_below_the_database_adapters() {
    for process in PROCESSES {
        let below_db =
            |path: &Path| path.components().any(|part| part.as_os_str() == "db" || part.as_os_str() == "db.rs");
        let files: Vec<_> = layer(process, "adapters").into_iter().filter(|(path, _)| !below_db(path)).collect();
        refuse(&files, &["sqlx::query", "query!", "query_as!", "query_scalar!"]);
    }
}

#[test]
fn contracts_are_pure_and_depend_on_no_runtime() {
    let mut files = Vec::new();
    sources(&root().join("contracts/src"), &mut files);
    refuse(&files, &DRIVERS);
    refuse(&files, &["tokio", "platform"]);
    refuse(&files, &IMPURE);
    let manifest = fs::read_to_string(root().join("contracts/Cargo.toml")).unwrap();
    for name in DRIVERS.iter().chain(&["tokio", "platform"]) {
        assert!(!manifest.lines().any(|line| line.starts_with(&format!("{name} "))), "contracts depends on {name}");
    }
}

#[test]
fn no_float_holds_money_or_quantities() {
    let mut files = Vec::new();
    sources(&root().join("contracts/src"), &mut files);
    for process in PROCESSES {
        files.extend(layer(process, "domain"));
    }
    refuse(&files, &["f64", "f32"]);
}

#[test]
fn the_unmaintained_retry_crate_is_used_in_one_file() {
    let mut files = Vec::new();
    for part in ["contracts", "platform", "order-core", "broker-gateway", "fill-receiver", "simulator"] {
        sources(&root().join(part).join("src"), &mut files);
    }
    let users: Vec<_> =
        files.iter().filter(|(_, code)| uses(code, "backoff::")).map(|(path, _)| path.file_name().unwrap()).collect();
    assert_eq!(users, ["reconnect.rs"]);
}

#[test]
fn every_service_has_the_same_event_log_tables() {
    let read =
        |process: &str| fs::read_to_string(root().join("migrations").join(process).join("0001_event_log.sql")).unwrap();
    for process in PROCESSES {
        assert_eq!(read(process), read("order-core"), "{process}");
    }
}

#[test]
fn this_test_can_fail() {
    assert!(uses("use sqlx::query;", "sqlx"));
    assert!(uses("let t = Instant::now();", "Instant::now"));
    assert!(!uses("let my_sqlx_like = 1;", "sqlx"));
    assert!(!uses("let tokio_free = 1;", "tokio"));
    assert_eq!(code_of("a\n// sqlx\nb\n#[cfg(test)]\nmod tests {\nsqlx"), "a\nb");
}
