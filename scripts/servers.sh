#!/usr/bin/env bash
# Installs the PostgreSQL and Redis servers from the system's packages where they are missing.
# The project starts private ones from them; the system's own servers are left alone.
# With `faketime` as its argument it installs that library too, which a drill lets clocks step with.
# Does nothing where servers are given by URL: REDIS_URL, and the URLs of all three databases.
set -euo pipefail

have_postgres() {
    [ -n "${POSTGRES_BIN_DIR:-}" ] && return
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || { command -v initdb && command -v postgres; } >/dev/null
}

postgres_given() {
    [ -n "${ORDER_CORE_DATABASE_URL:-}" ] && [ -n "${BROKER_GATEWAY_DATABASE_URL:-}" ] && [ -n "${FILL_RECEIVER_DATABASE_URL:-}" ]
}

missing=()
postgres_given || have_postgres || missing+=(postgresql)
[ "${1:-}" != faketime ] || compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || missing+=(faketime)
[ -n "${REDIS_URL:-}" ] || command -v redis-server >/dev/null || missing+=(redis-server)
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "servers: not installed: ${missing[*]}. Install them, or set REDIS_URL and the database URLs." >&2
    exit 1
fi

as_root() { if [ "$(id -u)" = 0 ]; then env "$@"; else sudo env "$@"; fi; }
apt() { as_root DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -y "$@" </dev/null; }

echo "servers: installing the packages ${missing[*]} with apt-get$([ "$(id -u)" = 0 ] || echo ' and sudo')"
apt -qq update

# The PostgreSQL package makes and starts a cluster of its own when it is installed. Nothing here needs one, so that is
# switched off while it is installed, unless the machine has said how it wants it.
drop_in=/etc/postgresql-common/createcluster.d/order-router.conf
cleanup() { [ ! -e "$drop_in" ] || as_root rm -f "$drop_in"; }
if [[ " ${missing[*]} " == *" postgresql "* ]]; then
    apt -qq install --no-install-recommends postgresql-common >/dev/null
    if [ -d "${drop_in%/*}" ] && [ ! -e "$drop_in" ]; then
        trap cleanup EXIT
        echo 'create_main_cluster = false' | as_root tee "$drop_in" >/dev/null
    fi
fi
apt -qq install --no-install-recommends "${missing[@]}" >/dev/null
echo "servers: installed ${missing[*]}"
