#!/usr/bin/env bash
# Runs the Python SDK example, in an environment of its own, against the running stack. Every address but loopback is
# denied to it.
set -euo pipefail
cd "$(dirname "$0")/.."

env_file=${STACK_ENV:-.run/stack.env}
if [ ! -e "$env_file" ]; then
    echo "sdk-check: no stack is running from $PWD; start one with: make stack" >&2
    exit 1
fi
. scripts/python-sdk.sh
. "$env_file"
exec "$sdk_python" examples/python/loopback_only.py examples/python/trade.py
