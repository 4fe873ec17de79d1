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
command -v python3 >/dev/null || { echo "sdk-check: python3 is missing (Debian: python3 python3-venv)" >&2; exit 1; }

venv=.run/venv
requirements=examples/python/requirements.txt
if ! cmp -s "$requirements" "$venv/installed.txt"; then
    echo "sdk-check: installing $(grep -v '^#' "$requirements" | paste -sd ' ') into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv" || { echo "sdk-check: python3 cannot make environments (Debian: python3-venv)" >&2; exit 1; }
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/installed.txt"
fi
. "$env_file"
exec "$venv/bin/python" examples/python/loopback_only.py examples/python/trade.py
