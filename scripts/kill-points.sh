#!/usr/bin/env bash
# Kill points are in a build of their own and nowhere else.
#   scripts/kill-points.sh          builds the engine with kill points (target/kill-points), and demands that each of
#                                   its programs has each of its points: a point that nobody passes is found here
#   scripts/kill-points.sh absent   demands that the ordinary debug programs have none
set -uo pipefail
cd "$(dirname "$0")/.."
export SQLX_OFFLINE=true

target=${CARGO_TARGET_DIR:-target}
programs=(order-server broker-gateway fill-receiver)
list=platform/src/killpoint.rs

points() { sed -n '/POINTS:/,/^];/p' "$list" | grep -oE "\"$1\.[a-z-]+\"" | tr -d '"'; }

# What a program without kill points has not: the names, and what arms them.
marks() { points "$1" && echo OOR_KILL_AT; }

has() { grep -qaF -- "$2" "$1"; }

# A search that finds nothing anywhere proves nothing.
readable() { # FILE
    has "$1" /ops/v1/ready && return
    echo "WRONG   $1 is not there, or not a program of the engine" >&2
    return 1
}

wrong=0
if [ "${1:-}" = absent ]; then
    for program in "${programs[@]}"; do
        file=$target/debug/$program
        readable "$file" || { wrong=1; continue; }
        for mark in $(marks "$program"); do
            has "$file" "$mark" && { echo "WRONG   $file has the kill point mark $mark" >&2; wrong=1; }
        done
    done
    [ "$wrong" = 0 ] && echo "no kill points in ${programs[*]}"
    exit "$wrong"
fi

RUSTFLAGS="--cfg oor_kill_points" CARGO_TARGET_DIR=$target/kill-points \
    cargo build --locked --quiet -p order-core -p broker-gateway -p fill-receiver --bins || exit 1
for program in "${programs[@]}"; do
    file=$target/kill-points/debug/$program
    readable "$file" || { wrong=1; continue; }
    for mark in $(marks "$program"); do
        has "$file" "$mark" || { echo "WRONG   $file has no kill point $mark" >&2; wrong=1; }
    done
done
exit "$wrong"
