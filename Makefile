# Every target sets up what it needs by itself: uv in .tools/, the locked packages in .venv/.
.PHONY: demo test unit integration e2e load check fix bench chaos docs schema lock coverage setup clean help
.DEFAULT_GOAL := help

PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
CODE := fraisier schema tests tools

# The certificates that the rest of the machine trusts, e.g. those of a company's proxy; uv brings its own.
export UV_SYSTEM_CERTS ?= 1

help:            ## what can be made
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(UV):
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check uv

.venv/.done: requirements.lock pyproject.toml $(UV)
	$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

setup: .venv/.done   ## the virtual environment, from the lock file

demo: setup      ## from a git push to a running release, and back from a bad one, in front of you
	$(BIN)/fraisier demo

check: setup     ## format, lint, types, imports
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup       ## format and mend what can be mended by itself
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

unit: setup      ## the unit tests
	$(BIN)/pytest tests/unit -n 3 --dist worksteal

integration: setup   ## with real git, SSH, supervisord, PostgreSQL
	tests/servers/packages
	$(BIN)/pytest tests/integration

e2e: setup       ## on real servers with systemd
	tests/servers/packages
	$(BIN)/pytest tests/e2e

load: setup      ## the receiver and the store under load
	$(BIN)/pytest tests/load

test: check      ## everything that has to pass
	tests/servers/packages
	$(BIN)/pytest tests/unit -n 3 --dist worksteal
	$(BIN)/pytest tests/chaos -n 4 --dist worksteal
	$(BIN)/pytest tests/e2e tests/integration -n 4 --dist loadfile --no-loadscope-reorder
	$(BIN)/pytest tests/load

coverage: setup  ## a report of what the unit and integration tests reach
	$(BIN)/coverage run -m pytest tests/unit tests/integration
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

bench: setup     ## measure, beside a floor, and store the figures in bench-results/
	$(BIN)/python -m tools.bench

chaos: setup     ## every fault at every moment, on both stores; ends with a table of what held (CHAOS="--only …")
	tests/servers/packages
	$(BIN)/python -m tests.chaos $(CHAOS)
	$(BIN)/python -m tests.chaos.faults --length 6
	$(BIN)/python -m tests.chaos.fleet
	$(BIN)/pytest tests/integration/test_guarantees.py tests/integration/test_concurrent_deployments.py \
	  tests/integration/test_attacks_on_*.py tests/integration/test_disk_full.py tests/integration/test_sweep.py \
	  tests/integration/test_synced_first.py tests/e2e/test_crash_recovery.py

docs: schema     ## write what is generated anew (pages of docs/, db/*.sql), and the whole as a site to site/
	$(BIN)/python -m tools.generate_docs
	@# not --quiet: mkdocs then no longer counts its warnings, and --strict lets them pass
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

schema: setup    ## write db/schema.sql and db/functions.sql anew, from the migrations
	$(BIN)/python -m tools.generate_schema

lock: $(UV)      ## pin the newest versions that fit pyproject.toml
	$(UV) pip compile --quiet pyproject.toml --all-extras --group dev --group docs --generate-hashes --universal \
	  --no-emit-index-url --no-annotate --upgrade --output-file requirements.lock

clean:           ## remove what the other targets made
	rm -rf .venv .tools .demo site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
