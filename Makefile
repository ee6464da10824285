.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Silent but for errors.
PIP := $(BIN)/python -m pip install --disable-pip-version-check -qq
DATA := data/misspellings
CHAOS_RUNS ?= 12
CHAOS_SEED ?= 1
CHAOS_TOGETHER ?= 2
TEST_WORKERS ?= 2
AUDIT := $(BIN)/pip-audit --strict --disable-pip --no-deps -r constraints.txt
AUDITED := $(VENV)/audit.json

.PHONY: help setup run test chaos compile docs lint audit typecheck clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED) ## Make .venv and install everything in it, once

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
		{ echo "Making $(VENV) ..."; $(PYTHON) -m venv --clear $(VENV); }
	@$(PIP) pip==26.3
	@echo "Installing 1 of 2: torch (0.8 GB; a minute or more) ..."
	@$(PIP) -c constraints.txt torch
	@echo "Installing 2 of 2: this project, kfp, Google's clients, what trains, serves and tests" \
		"(0.7 GB; one to three minutes) ..."
	@$(PIP) -c constraints.txt -e '.[local,dev]'
	@touch $@

$(DATA)/training.jsonl: examples/misspellings/make_dataset.py | $(INSTALLED)
	$(BIN)/python examples/misspellings/make_dataset.py $(DATA)

run: $(INSTALLED) $(DATA)/training.jsonl ## Rehearse the compiled Llama pipeline: train, evaluate, deploy, ask
	$(BIN)/vertex-sft run compiled/pipelines/tune-llama-model.yaml --local \
		--parameters-file examples/misspellings/parameters.yaml

test: $(INSTALLED) ## Run all tests, two files at once: TEST_WORKERS=2
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

chaos: $(INSTALLED) ## Rehearse under faults: CHAOS_RUNS=12 CHAOS_SEED=1 CHAOS_TOGETHER=2
	$(BIN)/python -m tests.chaos --runs $(CHAOS_RUNS) --seed $(CHAOS_SEED) --together $(CHAOS_TOGETHER)

compile: $(INSTALLED) ## Write compiled/, docs/rules.md and docs/reference/
	$(BIN)/vertex-sft compile --output compiled
	$(BIN)/vertex-sft rules > docs/rules.md
	$(BIN)/python -m sft_pipelines.reference docs/reference

docs: $(INSTALLED) ## Build the documentation in site/; a broken link fails
	@$(PIP) -c constraints.txt -e '.[docs]'
	$(BIN)/zensical build --clean --strict
	@echo "The site: $(CURDIR)/site/index.html"

lint: $(INSTALLED) ## Check style, security, the Dockerfile, and known vulnerabilities where told
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit -q -c pyproject.toml -ll -r components pipelines local
	$(BIN)/hadolint Dockerfile
	@$(PIP) -c constraints.txt -e '.[audit]'
	@rm -f $(AUDITED)
	@# Its status does not tell what it has found from what it could not ask: its report does.
	@$(AUDIT) --format json --output $(AUDITED) || \
		{ if [ -s $(AUDITED) ]; then $(BIN)/python -m json.tool $(AUDITED); exit 1; fi; \
		echo "Not audited: this package index tells no vulnerabilities. See above, and: make audit"; }

audit: $(INSTALLED) ## Look the locked versions up in the list of vulnerabilities; fails without one
	@$(PIP) -c constraints.txt -e '.[audit]'
	$(AUDIT)

typecheck: $(INSTALLED) ## Check types
	$(BIN)/mypy

clean: ## Remove what the other targets made, but for the user's cache
	rm -rf $(VENV) data runs dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
