# `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
EXAMPLES ?= 20000
# One process runs a file, whose fixtures are so made once. Four processes on two cores, because tests
# of nodes mostly wait. tests/conftest.py orders the files, not xdist.
PYTEST := $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

# Hundreds of nodes start during the tests: they read compiled modules, also where the environment asks
# Python not to write any.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

# Set up once, again only when the dependencies change; the network is needed only then. Nodes and
# tests have the versions of requirements.txt, tools those of requirements-dev.txt.
.venv/.installed: pyproject.toml requirements.txt requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	sed -n 's/^\([a-z0-9-]*==[^ ]*\).*/\1/p' requirements.txt requirements-dev.txt >.venv/pins.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .venv/pins.txt --editable '.[dev]'
	touch $@

.PHONY: setup
setup: .venv/.installed ## Make .venv with everything that development needs.

.PHONY: demo
demo: setup ## Run real nodes with real faults, and prove the promises (ARGS="--seed 7").
	$(BIN)/webhook-sync demo $(ARGS)

# -- the three loops -------------------------------------------------------------------------------

.PHONY: lint
lint: setup ## Run the linters, the type checker and the import rules.
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: quick
quick: lint ## Lint, and run the unit tests and the contract on the memory store: under a minute.
	$(PYTEST) -m 'not deep and not slow' -k 'unit or memory' tests/unit tests/contract

.PHONY: test
test: ## Lint, and run every test but the deep ones: under six minutes.
	$(MAKE) --jobs 2 lint compiled
	$(PYTEST) -m 'not deep' $(ARGS)

.PHONY: compiled
compiled: setup ## Import all tests once, so that the processes that run them find compiled modules.
	$(BIN)/pytest --collect-only --quiet >.venv/collected.txt || (tail -n 20 .venv/collected.txt; false)

.PHONY: deep
deep: lint ## Run everything, long sweeps included: before a release.
	$(PYTEST) $(ARGS)
	$(MAKE) ARGS= properties cut-sweep simulate simulate-mutants fuzz

# -- what `deep` consists of -----------------------------------------------------------------------

# LAWS=tests/property for all laws.
LAWS ?= tests/property/test_hash_*.py tests/property/test_identity_laws.py
.PHONY: properties
properties: setup ## Run the laws of hash and identity on many examples (EXAMPLES=20000).
	EXAMPLES=$(EXAMPLES) $(BIN)/pytest -n 2 --dist worksteal -p no:cacheprovider --timeout 0 $(LAWS)

.PHONY: simulate
simulate: setup ## Run 5,000 simulated histories (ARGS="--histories 1 --seed 7").
	$(BIN)/python -m loadtests.simulation $(ARGS)

.PHONY: simulate-mutants
simulate-mutants: setup ## Take each rule of the core away, and find a history that shows it.
	$(BIN)/python -m tests.support.laws.removed_rules

.PHONY: cut-sweep
cut-sweep: setup ## Cut a sync after every byte, and kill its master at every write.
	$(BIN)/python -m tests.support.laws.cut_sweep

.PHONY: fuzz
fuzz: setup ## Fuzz the parsers (ARGS="--runs 1000000 --target json-records").
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .venv/pins.txt --editable '.[fuzz]'
	$(BIN)/python -m loadtests.fuzz $(ARGS)

# -- load and benchmarks ---------------------------------------------------------------------------

.PHONY: load
load: setup ## Load three slaves and a master with Locust (ARGS="--scenario mixed").
	$(BIN)/python -m loadtests.load $(ARGS)

SEED ?= 1
.PHONY: chaos
chaos: setup ## Load with accidents: the ledger has to balance (BROKEN=1 breaks the build).
	$(BIN)/python -m loadtests.chaos --seed $(SEED) $(if $(filter-out 0,$(BROKEN)),--broken) $(ARGS)

.PHONY: delivery-faults
delivery-faults: setup ## Forward 10,000 webhooks with kills, outages and failures (ARGS="--seed 7").
	$(BIN)/python -m loadtests.delivery_faults $(ARGS)

ROUNDS ?= 5
.PHONY: bench
bench: setup ## Measure hash, receive and sync beside their peers: reports/bench.md.
	$(BIN)/python -m loadtests.bench --rounds $(ROUNDS) $(ARGS)

.PHONY: bench-age bench-archive bench-backup bench-console bench-crowd bench-forward bench-forward-latency bench-hash bench-index
.PHONY: bench-receive bench-slow-peers bench-stages bench-sync bench-wire
bench-age: setup ## Measure a master with 100, 10,000 and 50,000 files.
	$(BIN)/python -m loadtests.bench_age $(ARGS)
bench-archive: setup ## Archive a day of a million webhooks, remove it, and import it again.
	$(BIN)/python -m loadtests.bench_archive $(ARGS)
bench-backup: setup ## Back up a store of 1 GB under load, and restore it.
	$(BIN)/python -m loadtests.bench_backup $(ARGS)
bench-console: setup ## Measure the console's pages.
	$(BIN)/python loadtests/bench_console.py $(ARGS)
bench-crowd: setup ## Sync 1.5 million webhooks that arrived within two spans.
	$(BIN)/python -m loadtests.bench_crowd $(ARGS)
bench-forward: setup ## Measure forwarding to a receiver that works, fails, or is down.
	$(BIN)/python -m loadtests.bench_forward $(ARGS)
bench-feed: setup ## Measure the delay from a sender's 200 to a consumer.
	$(BIN)/python -m loadtests.bench_feed $(ARGS)
bench-forward-latency: setup ## Measure the time from the sender's 200 to the receiver.
	$(BIN)/python -m loadtests.bench_forward_latency $(ARGS)
bench-hash: setup ## Measure the hash.
	$(BIN)/python loadtests/bench_hash.py $(ARGS)
bench-index: setup ## Measure what the index for searches costs a master that receives.
	$(BIN)/python -m loadtests.bench_index $(ARGS)
bench-receive: setup ## Measure receiving beside peers, in ten minutes.
	$(BIN)/python -m loadtests.bench_receive $(ARGS)
bench-slow-peers: setup ## Measure 64 senders beside 10,000 slow clients, in two minutes.
	$(BIN)/python -m loadtests.bench_slow_peers $(ARGS)
bench-stages: setup ## Measure the stages of one webhook, in microseconds.
	$(BIN)/python -m loadtests.bench_stages $(ARGS)
bench-sync: setup ## Measure a sync.
	$(BIN)/python -m loadtests.bench_sync $(ARGS)
bench-wire: setup ## Measure the encodings of the sync.
	$(BIN)/python loadtests/bench_wire.py $(ARGS)

.PHONY: simulate-hour
simulate-hour: setup ## Simulate an hour of load.
	$(BIN)/python -m loadtests.simulate_hour --json reports/hour.json $(ARGS)

.PHONY: cost
cost: setup ## Compute what a month costs.
	$(BIN)/python -m loadtests.capacity $(ARGS)

# -- releases --------------------------------------------------------------------------------------

.PHONY: release
release: setup ## Build and check sdist and wheel: dist/.
	rm -rf dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .venv/pins.txt --editable '.[release]'
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/pytest -n 0 tests/deployment/test_distribution.py

.PHONY: mixed
mixed: setup ## Run nodes beside those of another version (EARLIER=FOLDER, with .venv).
	EARLIER=$(EARLIER) $(BIN)/pytest -n 0 tests/e2e/test_upgrade.py

.PHONY: containers
containers: setup ## Build and run the images; print their sizes and start times.
	$(BIN)/pytest -s tests/e2e/test_containers.py

.PHONY: guide
guide: setup ## Run docs/two-machines.md on two machines with systemd (root, mmdebstrap).
	$(BIN)/pytest -s tests/e2e/test_two_machines.py

.PHONY: screenshots
screenshots: setup ## Take a picture of every page of the console: reports/screenshots.
	$(BIN)/python -m tests.support.console.screenshots reports/screenshots

.PHONY: providers
providers: setup ## Make docs/providers/presets.md from the table of presets.
	$(BIN)/python -m tests.support.provider_pages

.PHONY: pins
pins: setup ## Pin the newest versions that pyproject.toml allows.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager --editable '.[dev]'
	$(BIN)/python containers/pin.py >requirements.new
	mv requirements.new requirements.txt
	$(BIN)/python containers/pin.py --build >requirements.new
	mv requirements.new requirements-build.txt
	$(BIN)/python containers/pin.py --dev >requirements.new
	mv requirements.new requirements-dev.txt
