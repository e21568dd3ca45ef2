# Everything runs in .venv, which the first target that needs it makes.

export PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
COVERAGE := 95
# Tests wait for the server for half of their time, so there are two processes for each core.
PROCESSES ?= $(shell expr 2 '*' $$(nproc 2>/dev/null || echo 2))

# Tests start hundreds of processes, each of which would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-fast test-lowest soak chaos bench bench-peers check format docs clean system

SECONDS ?= 120

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(INSTALLED) ## a workflow, a killed worker, a take-over, on a real MongoDB
	$(BIN)/python docs/examples/demo.py

test: $(INSTALLED) ## the whole suite, against a real MongoDB, with branch coverage
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest --numprocesses $(PROCESSES) --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=$(COVERAGE)

test-fast: $(INSTALLED) ## what needs no server, in half a minute
	$(BIN)/python -m pytest -m "not server and not slow" --numprocesses auto --dist worksteal

test-lowest: ## the whole suite with the oldest dependencies that pyproject.toml admits
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python \
		--resolution lowest-direct --editable '.[dev]'
	.venv-lowest/bin/python -m pytest --numprocesses auto --dist worksteal

soak: $(INSTALLED) ## the simulation, over 100,000 seeds; SEEDS=... FIRST=... for others
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),100000) --first $(or $(FIRST),0)

chaos: $(INSTALLED) ## faults on real processes and servers, then an audit; SECONDS=30 SEED=7
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

bench: $(INSTALLED) ## how fast it is, into docs/benchmarks/; under ten minutes
	$(BIN)/python -m benchmarks

bench-peers: ## the same workflow on DBOS, which is installed for it
	.ci/system-packages
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[bench]' dbos
	.venv-peers/bin/python -m benchmarks peers

check: $(INSTALLED) ## format, lint, types, import contracts, known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python .ci/audit.py

format: $(INSTALLED) ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## remove what the targets above have made
	rm -rf .venv .venv-lowest .venv-peers site .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache \
		.ruff_cache .import_linter_cache

$(INSTALLED): pyproject.toml .ci/system-packages
	.ci/system-packages
	$(PYTHON) -m venv --upgrade-deps $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
