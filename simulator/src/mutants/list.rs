//! All mutations, those of one package together, since a build goes on from the last one.

mod gateway;
mod order_server;
mod platform;
mod receiver;

use super::catcher::{Binary, Catcher};
use super::mutation::Mutation;

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Mutation> {
    [order_server::MUTATIONS, gateway::MUTATIONS, receiver::MUTATIONS, platform::MUTATIONS].into_iter().flatten()
}

const fn unit(package: &'static str, name: &'static str) -> Catcher {
    Catcher::Test { package, binary: Binary::Lib, name }
}

const fn integration(package: &'static str, name: &'static str) -> Catcher {
    Catcher::Test { package, binary: Binary::It, name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn read(file: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    #[test]
    fn every_mutation_applies_to_the_sources_as_they_are() {
        for mutation in all() {
            for file in mutation.files() {
                let edits = mutation.edits.iter().filter(|edit| edit.file == file);
                let changed = edits.clone().try_fold(read(file), |text, edit| edit.apply(&text));
                let changed = changed.unwrap_or_else(|error| panic!("{}: {error}", mutation.name));
                assert_ne!(changed, read(file), "{}", mutation.name);
            }
        }
    }

    #[test]
    fn mutations_change_the_engine_and_no_test_or_model() {
        for (mutation, edit) in all().flat_map(|mutation| mutation.edits.iter().map(move |edit| (mutation, edit))) {
            let package = edit.file.split('/').next().unwrap_or_default();
            assert!(
                ["order-core", "broker-gateway", "fill-receiver", "platform"].contains(&package),
                "{}",
                mutation.name
            );
            assert!(!edit.file.contains("/tests"), "{}", mutation.name);
        }
    }

    #[test]
    fn no_two_mutations_share_a_name() {
        let names: BTreeSet<_> = all().map(|mutation| mutation.name).collect();
        assert_eq!(names.len(), all().count());
    }
}
