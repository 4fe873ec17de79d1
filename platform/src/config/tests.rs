use super::*;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    lock: Lock,
    tokens: Tokens,
    keys: BTreeMap<String, Secret>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    lease_ms: u32,
    on: bool,
    ladder: Vec<i64>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Tokens {
    ops: Secret,
    name: String,
}

impl Configuration for Sample {
    const DEFAULTS: &'static str = "
        [lock]
        lease_ms = 5
        on = true
        ladder = [1]
        [tokens]
        ops = \"\"
        name = \"n\"
        [keys]
    ";
    const PREFIX: &'static str = "SAMPLE__";
    const ALIASES: &'static [(&'static str, &'static str)] = &[("OPS_TOKEN", "tokens.ops")];

    fn validate(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        checks.require(self.lock.lease_ms != 13, "lock.lease_ms must not be 13");
        checks.finish()
    }
}

fn load(variables: &[(&str, &str)]) -> Result<Loaded<Sample>, ConfigError> {
    load_with(None, variables)
}

fn load_with(file: Option<&Path>, variables: &[(&str, &str)]) -> Result<Loaded<Sample>, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sample::load_from(file, &variables)
}

/// The error with its causes.
fn refused(variables: &[(&str, &str)]) -> String {
    chain(&load(variables).unwrap_err())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text} {cause}");
        source = cause.source();
    }
    text
}

/// A file that is gone after the test.
struct File(PathBuf);

impl File {
    fn with(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("oor-config-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.0);
    }
}

#[test]
fn later_layers_win_and_the_report_says_which() {
    let file = File::with("layers", "[lock]\nlease_ms = 6\non = false\n[keys]\nfirst = \"k\"");
    let variables =
        [("SAMPLE__LOCK__LEASE_MS", "7"), ("SAMPLE__TOKENS__OPS", "lower"), ("OPS_TOKEN", "hunter2"), ("OTHER", "x")];
    let loaded = load_with(Some(&file.0), &variables).unwrap();
    let settings = &loaded.settings;
    assert_eq!((settings.lock.lease_ms, settings.lock.on, settings.tokens.ops.expose()), (7, false, "hunter2"));
    let path = file.path();
    let expected = format!(
        "keys.first = \"***\"  # {path}\nlock.ladder = [1]  # default\nlock.lease_ms = 7  # $SAMPLE__LOCK__LEASE_MS\n\
         lock.on = false  # {path}\ntokens.name = \"n\"  # default\ntokens.ops = \"***\"  # $OPS_TOKEN\n"
    );
    assert_eq!(loaded.report(), expected);
}

#[test]
fn a_key_that_there_is_not_is_refused_by_name_wherever_it_stands() {
    for name in [
        "SAMPLE__LOKC__LEASE_MS",
        "SAMPLE__LOCK__LEASE",
        "SAMPLE__LOCK_LEASE_MS",
        "SAMPLE__",
        "SAMPLE__LOCK__LEASE_MS__X",
        "sample__lokc",
        // One underscore too few after the prefix.
        "SAMPLE_LOCK__LEASE_MS",
        "SAMPLE__TOKENS__OSP_FILE",
    ] {
        let error = refused(&[(name, "7")]);
        assert!(error.contains(name), "{error}");
    }
    // What a container platform sets for a service of that name is none of ours.
    load(&[("SAMPLE_PORT", "tcp://1"), ("SAMPLE_SERVICE_HOST", "1")]).unwrap();
    for (text, key) in [("[lokc]\nlease_ms = 1", "lokc"), ("[lock]\nlease = 1", "lock.lease"), ("on = true", "on")] {
        let file = File::with("unknown", text);
        let error = chain(&load_with(Some(&file.0), &[]).unwrap_err());
        assert!(error.contains(&format!("unknown key {key} in {}", file.path())), "{error}");
    }
}

#[test]
fn a_value_has_the_type_of_its_default() {
    assert_eq!(load(&[("SAMPLE__TOKENS__NAME", "0042")]).unwrap().settings.tokens.name, "0042");
    assert_eq!(load(&[("SAMPLE__TOKENS__NAME", "[x]")]).unwrap().settings.tokens.name, "[x]");
    assert_eq!(load(&[("SAMPLE__LOCK__LADDER", "[1, 2]")]).unwrap().settings.lock.ladder, [1, 2]);
    assert_eq!(load(&[("SAMPLE__KEYS__B", "007")]).unwrap().settings.keys["b"].expose(), "007");
    for (name, value) in [
        ("SAMPLE__LOCK__LEASE_MS", ""),
        ("SAMPLE__LOCK__LEASE_MS", "5s"),
        ("SAMPLE__LOCK__LEASE_MS", "1.5"),
        ("SAMPLE__LOCK__LEASE_MS", "-1"),
        ("SAMPLE__LOCK__LEASE_MS", "4294967296"),
        ("SAMPLE__LOCK__LEASE_MS", "99999999999999999999"),
        ("SAMPLE__LOCK__ON", "yes"),
        ("SAMPLE__LOCK__LADDER", "1, 2"),
        ("SAMPLE__LOCK__LADDER", "[\"x\"]"),
        ("SAMPLE__LOCK", "{}"),
    ] {
        let error = refused(&[(name, value)]);
        assert!(error.contains(name) || error.contains("lock.l"), "{name}={value}: {error}");
    }
}

#[test]
fn a_secret_is_read_from_the_file_that_a_variable_names() {
    let file = File::with("secret", "hunter2\n");
    for name in ["OPS_TOKEN_FILE", "SAMPLE__TOKENS__OPS_FILE"] {
        let loaded = load(&[(name, file.path())]).unwrap();
        assert_eq!(loaded.settings.tokens.ops.expose(), "hunter2");
        assert!(loaded.report().contains(&format!("tokens.ops = \"***\"  # the file that ${name} names")));
    }
    for pair in [["OPS_TOKEN", "OPS_TOKEN_FILE"], ["SAMPLE__TOKENS__OPS", "SAMPLE__TOKENS__OPS_FILE"]] {
        let error = refused(&[(pair[0], "x"), (pair[1], file.path())]);
        assert!(pair.iter().all(|name| error.contains(name)), "{error}");
    }
    let error = refused(&[("OPS_TOKEN_FILE", "/no/such/file")]);
    assert!(error.contains("/no/such/file"), "{error}");
}

#[test]
fn no_error_and_no_report_repeats_a_secret() {
    let files = [
        "[tokens]\nops = \"hunter2",
        "[tokens]\nops = hunter2",
        "tokens = \"hunter2\"",
        "[tokens]\nops = [\"hunter2\"]",
        "[tokens]\nops = \"hunter2\"\nops = \"hunter2\"",
        "[tokens]\nops = \"hunter2\"\n[lock]\nlease_ms = 13",
        "[tokens]\nops = \"hunter2\"\n[lock]\non = 13",
        "[lock]\nlease_ms = \"hunter2\"",
        "[lock]\non = \"hunter2\"",
    ];
    for text in files {
        let file = File::with("leak", text);
        let error = chain(&load_with(Some(&file.0), &[]).unwrap_err());
        assert!(!error.contains("hunter2"), "{text}: {error}");
    }
    for variable in ["SAMPLE__LOCK__LEASE_MS", "SAMPLE__LOCK__ON", "SAMPLE__LOCK__LADDER", "SAMPLE__LOCK", "SAMPLE__X"]
    {
        let error = refused(&[(variable, "hunter2")]);
        assert!(!error.contains("hunter2"), "{error}");
    }
    let loaded = load(&[("OPS_TOKEN", "hunter2"), ("SAMPLE__KEYS__A", "hunter2")]).unwrap();
    assert!(!format!("{loaded:?} {}", loaded.report()).contains("hunter2"));
}

#[test]
fn contradictions_and_absurd_numbers_are_told_together() {
    let error = refused(&[("SAMPLE__LOCK__LEASE_MS", "13")]);
    assert!(error.contains("lock.lease_ms must not be 13"), "{error}");
    let error = refused(&[("SAMPLE__LOCK__LEASE_MS", "4000000000")]);
    assert!(error.contains("lock.lease_ms must be at most"), "{error}");
}
