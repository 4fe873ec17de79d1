#!/usr/bin/env bash
# Checks every SQL statement of the code against freshly migrated databases and writes what the compiler needs to know
# of them without a database into CRATE/.sqlx. With --check nothing is written: it fails where the committed data differ.
# Needs TEST_DATABASE_URL of a server on which databases can be created, or starts a private one.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${TEST_DATABASE_URL:-}" ]; then
    SQLX_OFFLINE=true cargo build --locked --quiet -p simulator --bin stack
    exec "${CARGO_TARGET_DIR:-target}/debug/stack" servers --instance prepare -- "$0" "$@"
fi
check=${1:-}

work=$(mktemp -d)
run=$$_$RANDOM
databases=()
query() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 "$@"; }
cleanup() {
    for database in "${databases[@]}"; do query "$TEST_DATABASE_URL" -c "drop database if exists $database with (force)" || true; done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'echo "sqlx-prepare: failed at line $LINENO" >&2' ERR

url_of() { # DATABASE: the given URL with another database
    echo "$TEST_DATABASE_URL" | sed -E "s#^(postgres(ql)?://[^/?]+)(/[^?]*)?#\1/$1#"
}

migrated() { # SERVICE VARIABLE
    local database="prepare_${1//-/_}_$run" file
    query "$TEST_DATABASE_URL" -c "create database $database"
    databases+=("$database")
    for file in migrations/"$1"/*.sql; do query "$(url_of "$database")" --single-transaction --file "$file" >/dev/null; done
    export "$2=$(url_of "$database")"
}
migrated order-core ORDER_CORE_DATABASE_URL
migrated broker-gateway BROKER_GATEWAY_DATABASE_URL
migrated fill-receiver FILL_RECEIVER_DATABASE_URL

# A statement is looked at when its file is compiled, so the crate's roots are made to look new. Their times are put
# back afterwards, or every later build would compile everything again.
prepare() { # CRATE
    local roots root
    mkdir -p "$work/$1" "$work/times"
    roots=$(find "$1/src" "$1/tests" -maxdepth 2 -name '*.rs' 2>/dev/null || true) # not every crate has tests
    for root in $roots; do
        mkdir -p "$work/times/${root%/*}"
        touch -r "$root" "$work/times/$root"
        touch "$root"
    done
    SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$work/$1" cargo check --locked --quiet -p "$1" --all-targets
    for root in $roots; do touch -r "$work/times/$root" "$root"; done
    # Where the chassis had to be compiled anew for this crate, its statements came along.
    [ "$1" = platform ] || for file in "$work/platform"/*; do rm -f "$work/$1/${file##*/}"; done
}

drift=0
# In dependency order, so that each crate's statements land in its own folder.
for crate in platform order-core broker-gateway fill-receiver; do
    prepare "$crate"
    if [ "$check" = --check ]; then
        mkdir -p "$work/none"
        committed=$crate/.sqlx
        [ -d "$committed" ] || committed=$work/none
        if ! diff -rq "$committed" "$work/$crate"; then
            echo "the committed query data of $crate differ from its code or its migrations; run scripts/sqlx-prepare.sh" >&2
            drift=1
        fi
    else
        rm -rf "$crate/.sqlx"
        [ -z "$(ls -A "$work/$crate")" ] || cp -r "$work/$crate" "$crate/.sqlx"
        echo "$crate: $(ls "$work/$crate" | wc -l) statements"
    fi
done
exit "$drift"
