# Everything that people and CI run. `make` alone says what there is.

PYTHON ?= python3
SEED ?=
SEEDS ?= $(if $(SEED),1,2000)
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
PYTEST := $(PY) -m pytest
UV_COMPILE := $(PY) -m uv --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

.PHONY: help
help: ## Say what there is
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# --- set up and show ---------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(STAMP) ## Make .venv from the hash-locked requirements; quick when nothing changed

$(STAMP): requirements/dev.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Reconcal needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(PY) || "$(PYTHON)" -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: demo
demo: setup ## Play a morning in a practice through all of it, and compare what was planted with what was found
	@$(VENV)/bin/reconcal demo

# --- tests -------------------------------------------------------------------------------------------------------

.PHONY: test
test: setup unit worlds integration e2e faults ## Set up, then run every test

.PHONY: check
check: format lint types contracts unit ## Format, lint, types, import contracts, unit, property and contract tests: seconds

.PHONY: format
format: setup ## Is everything formatted?
	@$(PY) -m ruff format --check --quiet . || { echo "make pretty mends this" >&2; exit 1; }

.PHONY: pretty
pretty: setup ## Format, and mend what the linter can mend
	@$(PY) -m ruff check --fix-only --quiet .
	@$(PY) -m ruff format .

.PHONY: lint
lint: setup ## Lint
	@$(PY) -m ruff check --quiet .

.PHONY: types
types: setup ## Check the types, strictly
	@$(PY) -m mypy

.PHONY: contracts
contracts: setup ## Who may import whom
	@$(VENV)/bin/lint-imports

.PHONY: unit
unit: setup ## Unit, property and contract tests: no sockets, no sleeps
	@$(PYTEST) tests/unit tests/property tests/contract $(ARGS)

.PHONY: worlds
worlds: setup
	@$(PYTEST) tests/sim $(ARGS)

.PHONY: sim
sim: setup ## Play seeded worlds: SEED=17 that one, SEEDS=10000 so many
	@$(PY) -m tests.sim --seed $(or $(SEED),0) --seeds $(SEEDS)

.PHONY: fuzz
fuzz: setup ## Send mutated bodies through the doors, decode and the fold: BODIES=200000, SEED=17 that one
	@$(PY) -m tests.fuzz --seed $(or $(SEED),1) --bodies $(or $(BODIES),200000)

.PHONY: integration
integration: setup ## The parts on a real broker and database: the embedded ones and Apache Kafka
	@$(PYTEST) tests/integration $(ARGS)

.PHONY: e2e
e2e: setup ## From the front door to the mail, in real processes
	@$(PYTEST) tests/e2e $(ARGS)

.PHONY: faults
faults: setup ## Kill, stop, cut and slow down; nothing may be lost
	@$(PYTEST) tests/faults $(ARGS)

.PHONY: bench
bench: setup ## Measure against the bounds of the design, side by side
	@$(PY) -m tests.bench $(ARGS)

# --- tools -------------------------------------------------------------------------------------------------------

.PHONY: kafka
kafka: setup ## Fetch Apache Kafka from Maven Central and run one node until Ctrl-C
	@$(PY) -m tests.support.kafka_server fetch
	@exec $(PY) -m tests.support.kafka_server run

.PHONY: schemas
schemas: setup ## Make the examples, schemas/json, asyncapi.yaml and openapi.json anew from the Structs
	@$(PY) -m tests.support.examples
	@$(PY) -m schemas.generate

.PHONY: reference
reference: setup ## Make docs/reference anew from the code
	@$(PY) -m tests.support.reference

.PHONY: catalogue
catalogue: setup ## Bring the German catalogue up to date with what is marked in code and templates
	@$(PY) -m tests.support.catalogue

.PHONY: look
look: setup ## Draw all mails in both languages into .look/, with pictures where there is a Chromium
	@$(PY) -m tests.look.mails .look/mails

.PHONY: lock
lock: setup ## Resolve the requirements, with hashes; pins stay unless ARGS=--upgrade
	@$(UV_COMPILE) $(ARGS) pyproject.toml --extra embedded --extra dev -o requirements/dev.txt
	@$(UV_COMPILE) -c requirements/dev.txt --no-annotate pyproject.toml --extra embedded -o requirements/run.txt
	@$(UV_COMPILE) -c requirements/dev.txt --no-annotate pyproject.toml -o requirements/service.txt
	@echo hatchling | $(UV_COMPILE) -c requirements/dev.txt --no-annotate - -o requirements/build.txt

.PHONY: clean
clean: ## Remove what was made here: the environment, caches, Kafka, Mailpit
	@rm -rf $(VENV) .kafka .mailpit .data .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
