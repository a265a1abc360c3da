# Everything that a developer, an operator or CI runs. `make help` reads the comments behind `##`.

VENV ?= .venv
PYTHON ?=
ARGS ?=
bin := $(VENV)/bin
stamp := $(VENV)/.complete

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.13  the interpreter to set up with    VENV=DIR  where (default .venv)"
	@echo "  ARGS='-k tail -x'  passed on to pytest or the bench  ONCE=1    let the demo end by itself"

.PHONY: setup
setup: $(stamp) ## Make .venv with the `dispatcher` command and the tools, from requirements.lock
	@:

$(stamp): requirements.lock pyproject.toml .ci/setup
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/setup
	@touch $@

.PHONY: demo
demo: setup ## Replay real earthquakes through the whole dispatcher, on this machine
	@$(bin)/dispatcher demo $(if $(ONCE),--once)

.PHONY: test
test: setup ## Run the tests, against a real PostgreSQL that they start themselves
	@$(bin)/python -m pytest -m "not slow" -n 3 --dist loadfile $(ARGS)

.PHONY: test-slow
test-slow: setup ## Run the tests that take longer: crashes, restarts, big backlogs
	@$(bin)/python -m pytest -m slow $(ARGS)

.PHONY: unit
unit: setup ## Run the pure tests, in seconds
	@$(bin)/python -m pytest tests/unit $(ARGS)

.PHONY: check
check: setup ## Lint, check types, layers, documentation and the house rules
	@$(bin)/ruff check .
	@$(bin)/ruff format --check .
	@$(bin)/mypy
	@$(bin)/lint-imports --no-logo
	@$(bin)/python -m pytest -q tests/architecture

.PHONY: format
format: setup ## Format the code and mend what ruff can mend
	@$(bin)/ruff check --fix .
	@$(bin)/ruff format .

.PHONY: bench
bench: setup ## Measure, each figure beside its baseline in the same run
	@$(bin)/python -m bench $(ARGS)

.PHONY: deb
deb: setup ## Build the Debian package into dist/, of what `make setup` has installed
	@$(bin)/python packages/build_deb.py

.PHONY: docs
docs: setup ## Build the documentation into site/, every link checked, to be read in a browser
	@$(bin)/python packages/build_docs.py

.PHONY: sbom
sbom: setup ## Write dist/sbom.json: every locked package, for scanners
	@$(bin)/python packages/build_sbom.py

.PHONY: audit
audit: setup ## Compare what is locked with a copy of the advisories (ADVISORIES=folder or archive, OSV)
	@$(bin)/python packages/audit.py $(or $(ADVISORIES),$(error ADVISORIES= names the copy: see SECURITY.md)) $(ARGS)

.PHONY: lock
lock: ## Renew requirements.lock (needs uv; UPGRADE=1 takes newer versions)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra embedded --extra otel --group dev pyproject.toml -o requirements.lock $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## Remove what the other commands made, but never the data in var/
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist site
	find dispatcher tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
