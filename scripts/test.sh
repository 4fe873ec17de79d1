#!/usr/bin/env bash
# Everything that must hold before a change lands, one step after the other, with a line a step at the end.
# A failed step does not keep the later ones from running, except where the code does not compile.
#   DENY=skip   leaves out cargo-deny
set -uo pipefail
cd "$(dirname "$0")/.."

export SQLX_OFFLINE=true CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
summary=()
failed=0

step() { # NAME COMMAND...
    local name=$1 started=$SECONDS
    shift
    echo "== $name"
    if "$@"; then
        summary+=("ok      $name ($((SECONDS - started)) s)")
    else
        summary+=("FAILED  $name ($((SECONDS - started)) s)")
        failed=1
        return 1
    fi
}

finish() {
    echo
    echo "== summary"
    printf '%s\n' "${summary[@]}"
    exit "$failed"
}

rustdoc() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet; }

bench_tiny() {
    cargo build --workspace --bins --locked --quiet &&
        cargo test -p simulator --locked --quiet --test it bench_tiny:: -- --ignored
}

one_drill() { cargo test -p simulator --locked --quiet --test it one_drill:: -- --ignored; }

trace_check() { cargo test -p simulator --locked --quiet --test it trace_check:: -- --ignored; }

build_stack() { cargo build --locked --quiet -p simulator --bin stack; }

# The private servers live as long as the command; given ones (TEST_DATABASE_URL, REDIS_URL) are used instead.
beside_servers() { target_dir; "$target/debug/stack" servers --instance "test" -- "$@"; }

target_dir() { target=${CARGO_TARGET_DIR:-target}; }

advisories() {
    local database
    database=$(find "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs" -maxdepth 1 -mindepth 1 -type d 2>/dev/null | head -n 1)
    if [ -z "$database" ]; then
        echo
        echo "!!!! SKIPPED: cargo deny check advisories. There is no advisory database on this machine, and known"
        echo "!!!! vulnerabilities in the dependencies were NOT looked for. Get one with: cargo deny fetch db"
        echo
        summary+=("SKIPPED cargo deny check advisories: no advisory database on this machine")
        return 0
    fi
    step "cargo deny: advisories" cargo deny --offline check --hide-inclusion-graph advisories
}

deny() {
    if [ "${DENY:-}" = skip ]; then
        echo "!!!! SKIPPED: cargo deny, as DENY=skip asks"
        summary+=("SKIPPED cargo deny (DENY=skip)")
        return 0
    fi
    if ! cargo deny --version >/dev/null 2>&1; then
        echo "== installing cargo-deny, once (about 5 minutes on two cores; DENY=skip leaves it out)"
        step "install cargo-deny" cargo install cargo-deny --locked --quiet || return 1
    fi
    step "cargo deny: bans, licenses, sources" \
        cargo deny --offline --all-features check --hide-inclusion-graph bans licenses sources
    advisories
}

# Some tests are about private servers, so given ones do not make these needless.
step "servers installed" env -u REDIS_URL -u ORDER_CORE_DATABASE_URL scripts/servers.sh || finish
step "cargo fmt" cargo fmt --all --check
step "build the stack tool" build_stack || finish
step "committed query data" beside_servers scripts/sqlx-prepare.sh --check
step "cargo clippy" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
step "cargo test" beside_servers cargo test --workspace --locked --no-fail-fast
step "benchmark, in its smallest form" bench_tiny
step "no kill points in the ordinary programs" scripts/kill-points.sh absent
step "one drill, in its smallest form" one_drill
step "traces, logs and metrics of a whole run" trace_check
step "rustdoc" rustdoc
deny
finish
