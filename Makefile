# make demo      the main job on this machine          (ARGS="--seed 7 --webhooks 1000")
# make test      linters, types, import rules, tests
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
EXAMPLES ?= 20000

# Set up once, again only when the dependencies change; needs the network only then. What nodes get
# is what is tested: their packages have the versions of requirements.txt.
.venv/.installed: pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	grep -v '^-e' requirements.txt >.venv/pins.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .venv/pins.txt --editable '.[dev]'
	touch $@

.PHONY: setup
setup: .venv/.installed

.PHONY: demo
demo: setup
	$(BIN)/webhook-sync demo $(ARGS)

.PHONY: lint
lint: setup
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: lint
	$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

# The images, built and run; their sizes and start times.
.PHONY: containers
containers: setup
	$(BIN)/pytest -s tests/e2e/test_containers.py

# The versions that containers and functions get: the newest, which are installed here first.
.PHONY: pins
pins: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager --editable '.[dev]'
	$(BIN)/python containers/pin.py >requirements.new
	mv requirements.new requirements.txt

# The laws of the payload hash, deep (LAWS=tests/property for all laws).
LAWS ?= tests/property/test_hash_*.py
.PHONY: properties
properties: setup
	EXAMPLES=$(EXAMPLES) $(BIN)/pytest -n 2 --dist worksteal -p no:cacheprovider --timeout 0 $(LAWS)

# 5,000 simulated histories (ARGS="--histories 1 --seed 7").
.PHONY: simulate
simulate: setup
	$(BIN)/python -m loadtests.simulation $(ARGS)

# Each rule of the core taken away, and the first simulated history that shows it.
.PHONY: simulate-mutants
simulate-mutants: setup
	$(BIN)/python -m tests.support.laws.simulation_faults

# A sync cut after every byte, its master killed at every write.
.PHONY: cut-sweep
cut-sweep: setup
	$(BIN)/python -m tests.support.laws.cut_sweep

.PHONY: bench-console
bench-console: setup
	$(BIN)/python loadtests/bench_console.py $(ARGS)

.PHONY: bench-hash
bench-hash: setup
	$(BIN)/python loadtests/bench_hash.py

.PHONY: bench-receive
bench-receive: setup
	$(BIN)/python loadtests/bench_receive.py $(ARGS)

.PHONY: bench-sync
bench-sync: setup
	$(BIN)/python -m loadtests.bench_sync $(ARGS)

.PHONY: bench-wire
bench-wire: setup
	$(BIN)/python loadtests/bench_wire.py

# Locust against three slaves and a master here (ARGS="--scenario mixed -- --webhooks 3000").
.PHONY: load
load: setup
	$(BIN)/python -m loadtests.load $(ARGS)

# A load with accidents: the ledger has to balance. BROKEN=1 breaks the build on purpose.
SEED ?= 1
.PHONY: chaos
chaos: setup
	$(BIN)/python -m loadtests.chaos --seed $(SEED) $(if $(filter-out 0,$(BROKEN)),--broken) $(ARGS)

# Hash, receive and sync beside their peers: reports/bench.md.
ROUNDS ?= 5
.PHONY: bench
bench: setup
	$(BIN)/python -m loadtests.bench --rounds $(ROUNDS) $(ARGS)

.PHONY: simulate-hour
simulate-hour: setup
	$(BIN)/python -m loadtests.simulate_hour --json reports/hour.json $(ARGS)

.PHONY: cost
cost: setup
	$(BIN)/python -m loadtests.capacity $(ARGS)

# 200,000 random inputs for the parsers (ARGS="--runs 1000000 --target json-records").
.PHONY: fuzz
fuzz: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python -m loadtests.fuzz $(ARGS)
