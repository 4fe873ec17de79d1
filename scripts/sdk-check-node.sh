#!/usr/bin/env bash
# Runs the JavaScript SDK example, with packages of its own, against the running stack. Every address but loopback is
# denied to it.
set -euo pipefail
cd "$(dirname "$0")/.."

env_file=${STACK_ENV:-.run/stack.env}
if [ ! -e "$env_file" ]; then
    echo "sdk-check-node: no stack is running from $PWD; start one with: make stack" >&2
    exit 1
fi
command -v npm >/dev/null || { echo "sdk-check-node: node and npm are missing (Debian: nodejs npm)" >&2; exit 1; }
if ! node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)'; then
    echo "sdk-check-node: the SDK needs node 20 or newer; this is $(node --version)" >&2
    exit 1
fi

# The packages lie beside the example's copy: node looks for them from where the script is.
folder=.run/node
mkdir -p "$folder"
if ! cmp -s examples/node/package.json "$folder/installed.json"; then
    echo "sdk-check-node: installing the packages of examples/node/package.json into $folder"
    rm -rf "$folder/node_modules" "$folder/package-lock.json"
    cp examples/node/package.json "$folder/package.json"
    npm install --prefix "$folder" --silent --no-audit --no-fund --ignore-scripts
    cp examples/node/package.json "$folder/installed.json"
fi
cp examples/node/loopback-only.cjs examples/node/trade.mjs "$folder/"
. "$env_file"
cd "$folder"
exec node --require ./loopback-only.cjs trade.mjs
