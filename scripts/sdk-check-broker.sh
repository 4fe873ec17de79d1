#!/usr/bin/env bash
# Runs the Python SDK against the simulated broker alone, started for this on a free port. Every address but loopback
# is denied to it.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${1:?the folder of the programs}
. scripts/python-sdk.sh
log=$(mktemp)
"$bin/broker-sim" --addr 127.0.0.1:0 --checks-funds 2>"$log" &
broker=$!
trap 'kill "$broker" 2>/dev/null || true; rm -f "$log"' EXIT
for _ in $(seq 100); do
    addr=$(sed -n 's/.*"addr":"\([^"]*\)".*/\1/p' "$log" | head -1)
    [ -z "$addr" ] || break
    kill -0 "$broker" 2>/dev/null || { cat "$log" >&2; exit 1; }
    sleep 0.1
done
BROKER_URL="http://${addr:?the broker does not listen}" \
    "$sdk_python" examples/python/loopback_only.py examples/python/broker_sim.py
