# The project's commands. `make` alone lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help stack start stop status demo test drill drills drill-kill drill-push drill-redis drill-bus drill-copies drill-overspend drill-duplicate drill-hangup trace-check kill-points bench broker-sim sdk-check sdk-check-broker sdk-check-node lock-proof mutants models simulate prepare servers build

# PROFILE=release runs optimised binaries.
PROFILE ?= dev
KEEP ?=
ARGS ?=
HOURS ?= always
TIMES ?= 50
SEED ?= 1
PROCESS ?= order-server
REDIS ?=
COPIES ?= 1
SECONDS_EACH ?= 15
# Of `make mutants`: only those in whose name, file or test this stands.
ONLY ?=
# Of `make drill` and `make drills`.
NAME ?=
NAMES ?=
ORDERS ?=
KILL_POINTS := $(or $(CARGO_TARGET_DIR),target)/kill-points/debug
# Of `make bench`: seconds of one measurement, connections, rounds, accounts.
SECONDS ?= 8
CONNECTIONS ?= 64
ROUNDS ?= 3
ACCOUNTS ?= 10000

export SQLX_OFFLINE := true
BIN := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
# The kernel ends the command in order when make itself is killed.
RUN := exec setpriv --pdeathsig TERM --

help: ## Lists the commands.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/\1|\2/' | \
	  while IFS='|' read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

servers: ## Installs PostgreSQL and Redis from the system's packages if they are missing.
	@scripts/servers.sh

build: ## Builds every program.
	@cargo build --locked --profile $(PROFILE) --workspace --bins

stack: servers build ## Runs everything in the foreground. KEEP=1 keeps the data, HOURS=real keeps the exchange's hours, COPIES=2 runs two of each process, ARGS="--profile blind --minute-ms 1000" another broker and a faster clock.
	@$(RUN) $(BIN)/stack up $(if $(KEEP),--keep) --market-hours $(HOURS) --seed $(SEED) --copies $(COPIES) $(ARGS)

start: ## Starts a dead process of the running stack again: NAME=order-server, broker-gateway, fill-receiver, broker-sim, redis or postgres.
	@test -n "$(NAME)" || { echo "say which: make start NAME=order-server" >&2; exit 2; }
	@$(BIN)/stack start $(NAME)

stop: ## Ends the running stack.
	@$(BIN)/stack stop

status: ## Tells what of the running stack runs.
	@$(BIN)/stack status

demo: servers build ## Orders of several accounts, each engine process killed once, everything compared with the broker.
	@$(RUN) $(BIN)/drill demo --seed $(SEED)

test: ## Formatting, lints, all tests, query data, docs, dependencies.
	@scripts/test.sh

lock-proof: servers ## Proves that the tests of the account lock can fail: they must, without the version check. Some minutes, once.
	@scripts/lock-proof.sh

mutants: servers ## Puts known ways to lose or double an order into a copy of the engine, one at a time; each must fail its test. ONLY=receiver some. Half an hour and more, the first time.
	@cargo build --locked --quiet -p simulator --bin stack --bin mutants
	@$(RUN) $(or $(CARGO_TARGET_DIR),target)/debug/stack servers --instance mutants -- \
	  $(or $(CARGO_TARGET_DIR),target)/debug/mutants $(if $(ONLY),--only "$(ONLY)") $(ARGS)

simulate: ## Tells SEEDS stories of the engine's decisions in one process, from seed FIRST; PRINT=1 prints them.
	@cargo build --locked --quiet -p models --bin simulate
	@$(RUN) $(BIN)/simulate --seeds $(or $(SEEDS),2000) --first $(or $(FIRST),1) $(if $(PRINT),--print)

models: ## The models of the protocols, within wide bounds too: minutes, and gigabytes of memory.
	@cargo test --locked -p models --test it -- --nocapture --include-ignored

# The drills of kill points need a build of their own.
kill-points:
	@scripts/kill-points.sh

drill: servers build $(if $(filter steps-%,$(NAME)),kill-points) ## One drill: NAME=chaos SEED=1 ORDERS=2000; NAME=list tells the names.
	@test -n "$(NAME)" || { echo "say which: make drill NAME=list" >&2; exit 2; }
	@scripts/servers.sh $(if $(filter clock-step,$(NAME)),faketime)
	@$(RUN) $(BIN)/drill --kill-points $(KILL_POINTS) --seed $(SEED) $(if $(ORDERS),--orders $(ORDERS)) $(if $(LABEL),--label $(LABEL)) $(if $(filter list,$(NAME)),list,run $(NAME))

drills: servers build $(if $(if $(NAMES),$(filter steps-%,$(NAMES)),all),kill-points) ## All drills, SEEDS=3 seeds each, ORDERS=2000 orders each, with a table in .run/drills.md and .json. NAMES="chaos bus" only these; LABEL=a goes on beside others, with .run/drills.a.md.
	@scripts/servers.sh $(if $(filter clock-step,$(or $(NAMES),clock-step)),faketime)
	@$(RUN) $(BIN)/drill --kill-points $(KILL_POINTS) --seed $(SEED) $(if $(ORDERS),--orders $(ORDERS)) $(if $(LABEL),--label $(LABEL)) all $(NAMES) --seeds $(or $(SEEDS),3)

drill-kill: servers build ## Kills PROCESS (or all) TIMES times under load and compares with the broker. REDIS=1 stops Redis for 30 s too.
	@$(RUN) $(BIN)/drill kill --process $(PROCESS) --times $(TIMES) --seed $(SEED) $(if $(REDIS),--redis)

drill-push: servers build
	@$(RUN) $(BIN)/drill push --times $(TIMES) --seed $(SEED)

drill-bus: servers build
	@$(RUN) $(BIN)/drill bus --seconds $(SECONDS_EACH) --seed $(SEED)

drill-redis drill-copies drill-overspend drill-duplicate drill-hangup: drill-%: servers build
	@$(RUN) $(BIN)/drill run $* --seed $(SEED)

trace-check: servers build ## One trace an order over all processes, lines of the logs that name it, no secret in any, metrics explained.
	@$(RUN) $(BIN)/drill trace --seed $(SEED)

bench: servers ## Accepted and filled orders a second beside pgbench on the same server, optimised: SECONDS, CONNECTIONS, ROUNDS, ACCOUNTS.
	@cargo build --locked --release --workspace --bins
	@$(RUN) $(dir $(BIN))release/load bench --seconds $(SECONDS) --connections $(CONNECTIONS) --rounds $(ROUNDS) --accounts $(ACCOUNTS) $(ARGS)

broker-sim: ## Runs the simulated broker alone at 127.0.0.1:8090, for a program of your own: ARGS="--profile blind --seed 7", see --help.
	@cargo build --locked --quiet --profile $(PROFILE) -p simulator --bin broker-sim
	@$(RUN) $(BIN)/broker-sim --checks-funds $(ARGS)

sdk-check-broker: ## Runs the Python SDK against the simulated broker alone, and meets its faults.
	@cargo build --locked --quiet --profile $(PROFILE) -p simulator --bin broker-sim
	@scripts/sdk-check-broker.sh $(BIN)

sdk-check: ## Runs the Python SDK example against the running stack, every other address denied.
	@scripts/sdk-check.sh

sdk-check-node: ## The same with the JavaScript SDK.
	@scripts/sdk-check-node.sh

prepare: servers ## Writes the query data that the compiler needs without a database.
	@scripts/sqlx-prepare.sh
