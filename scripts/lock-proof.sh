#!/usr/bin/env bash
# Proves that the tests of the account lock can fail: builds the order server without its version check, in a target
# folder of its own, and demands that each test named here fails; then that each passes on the real one.
# Needs TEST_DATABASE_URL, or starts a private server.
set -uo pipefail
cd "$(dirname "$0")/.."

if [ -z "${TEST_DATABASE_URL:-}" ]; then
    SQLX_OFFLINE=true cargo build --locked --quiet -p simulator --bin stack || exit 1
    exec "${CARGO_TARGET_DIR:-target}/debug/stack" servers --instance lock-proof -- "$0" "$@"
fi
export SQLX_OFFLINE=true RUST_BACKTRACE=0
# Without databases named, or the macros would look at them.
unset ORDER_CORE_DATABASE_URL BROKER_GATEWAY_DATABASE_URL FILL_RECEIVER_DATABASE_URL

tests=(
    lock::a_holder_paused_beyond_its_lease_spends_nothing_that_another_spent_meanwhile
    lock::spenders_never_overspend_while_redis_is_stopped
    lock::spenders_never_overspend_while_redis_hangs
    lock::spenders_never_overspend_while_redis_is_restarted_empty
    api::frozen::a_process_stopped_beyond_its_lease_spends_nothing_that_another_spent_meanwhile
)

# What no two writers contend for passes without the version check too: else the build itself is broken, and a failure
# of the tests above proves nothing.
controls=(
    commands::an_accepted_order_its_hold_its_journal_and_its_event_are_one_commit
    lock::a_busy_account_is_waited_for_and_then_goes_on_without_its_lock
)

wrong=0
echo "== building without the version check (target/mutant)"
RUSTFLAGS="--cfg oor_without_version_check" CARGO_TARGET_DIR=target/mutant \
    cargo test --locked --quiet -p order-core --test it --no-run || exit 1
echo "== building the real one"
cargo test --locked --quiet -p order-core --test it --no-run || exit 1

run() { cargo test --locked --quiet -p order-core --test it -- --exact "$1" 2>&1; }

for name in "${controls[@]}"; do
    output=$(RUSTFLAGS="--cfg oor_without_version_check" CARGO_TARGET_DIR=target/mutant run "$name")
    if ! grep -q "test result: ok. 1 passed" <<<"$output"; then
        echo "WRONG   $name must pass without the version check"
        tail -n 5 <<<"$output"
        exit 1
    fi
done

for name in "${tests[@]}"; do
    output=$(RUSTFLAGS="--cfg oor_without_version_check" CARGO_TARGET_DIR=target/mutant run "$name")
    if ! grep -q "test result: FAILED. 0 passed; 1 failed" <<<"$output"; then
        echo "WRONG   $name does not fail without the version check"
        tail -n 5 <<<"$output"
        wrong=1
        continue
    fi
    output=$(run "$name")
    if ! grep -q "test result: ok. 1 passed" <<<"$output"; then
        echo "WRONG   $name does not pass with the version check"
        tail -n 20 <<<"$output"
        wrong=1
        continue
    fi
    echo "proven  $name"
done
exit "$wrong"
