PYTHON ?= python3
VENV := .venv
export PYTHONDONTWRITEBYTECODE :=  # else each process of the tests compiles all of its modules again
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install lint format type test test-fast test-browser check-marked-values coverage run http builder demo docs protos protos-check clients breaking bench bench-unary bench-smoke bench-indexes bench-sampling bench-parts bench-buckets bench-watch bench-cancel bench-upload bench-lookalike bench-traffic bench-related bench-targeting bench-platform-trees bench-sync robustness taxonomies check-monitoring lock clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Create .venv with the locked versions

$(INSTALLED): requirements-dev.lock pyproject.toml clients/python/pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . --editable clients/python
	@touch $@

demo: install ## Show a story on sample contacts: find, count, follow and protect an audience
	@$(BIN)/audience-service demo

run: install ## Serve, in memory with sample contacts unless AUDIENCE_MONGODB_URI is set
	$(BIN)/audience-service serve --dev

http: install ## Serve as `make run` does, with the HTTP gateway on 127.0.0.1:8080
	@$(BIN)/audience-service serve --dev & service=$$!; trap 'kill $$service 2>/dev/null' EXIT; \
	$(BIN)/audience-service gateway

builder: install ## Serve the audience builder, a page against the HTTP gateway, with sample contacts [ORG=demo]
	@$(BIN)/python -m scripts.builder $(if $(ORG),--org "$(ORG)")

# Each process runs tests of its own modules, and takes over others' at the end: it starts few fixtures, and none waits.
PARALLEL := --dist worksteal

test: install ## Run all tests, and the store tests also on AUDIENCE_TEST_MONGODB_URI if it is set
	$(BIN)/pytest $(PARALLEL) -n auto --maxprocesses 4

FAST := env -u AUDIENCE_TEST_MONGODB_URI -u AUDIENCE_TEST_DURABLE_MONGODB -u AUDIENCE_TEST_REPLICA_SET_MONGODB

test-fast: install ## Run the tests without the marker `slow`, on the embedded store alone: under a minute
	$(FAST) $(BIN)/pytest -q $(PARALLEL) -n 2 -m "not slow"

test-browser: install ## Run the tests of the audience builder in Chromium, which must be installed (Debian: chromium, chromium-driver)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-browser.lock
	$(BIN)/pytest -q -n 0 tests/browser

LINES ?= 50000

check-marked-values: install ## Search 50,000 log lines, spans, metrics and errors for values that must not be there [LINES=...]
	AUDIENCE_TEST_MARKED_LINES=$(LINES) $(BIN)/pytest -q -n 0 tests/contract/test_marked_values.py

coverage: install ## Report which lines and branches `make test` does not run, in build/coverage
	$(BIN)/pytest -q $(PARALLEL) -n auto --maxprocesses 4 --cov --cov-report term --cov-report html:build/coverage

lint: install ## Check style, layers, protos and container files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile; fi  # only where there is a wheel of it

format: install ## Format code and protos
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format --write protos

type: install ## Check types
	$(BIN)/mypy

docs: install ## Generate the pages of docs/reference that come from the code, and the OpenAPI document
	$(BIN)/python -m scripts.reference
	$(BIN)/python -m scripts.openapi

protos: install ## Generate audience_service/pb and the generated modules of clients/python
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/protos.py
	$(BIN)/python -m scripts.python_client

protos-check: install ## Check that generated modules match protos/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/protos.py --check
	$(BIN)/python -m scripts.python_client --check

CONTACTS ?= 10000,100000

bench: install ## Compare speed with hand-written pymongo: make bench URI=mongodb://... [CONTACTS=10000,1000000]
	$(BIN)/python -m bench --uri "$(URI)" --contacts "$(CONTACTS)" --json build/bench.json

bench-unary: install ## Measure the CPU of unary calls, and 32 callers: make bench-unary URI=mongodb://... [PIN=--pin]
	$(BIN)/python -m bench.unary --uri "$(URI)" $(PIN)

bench-smoke: install ## Fail if a ratio of 10,000 contacts is 1.5 times the recorded one: make bench-smoke URI=mongodb://...
	$(BIN)/python -m bench.smoke --uri "$(URI)"

bench-indexes: install ## Measure ten segments before and after their recommended indexes: make bench-indexes URI=mongodb://...
	$(BIN)/python -m bench.indexes --uri "$(URI)"

bench-sampling: install ## Measure how often sampled intervals contain the exact count: make bench-sampling URI=mongodb://...
	$(BIN)/python -m bench.sampling --uri "$(URI)"

bench-traffic: install ## Count the bytes between service and database: make bench-traffic URI=mongodb://... [CONTACTS=...]
	$(BIN)/python -m bench.traffic --uri "$(URI)" --contacts "$(CONTACTS)"

bench-watch: install ## Measure the time from a write to its event, and the cost of scans: make bench-watch URI=mongodb://...
	$(BIN)/python -m bench.watch --uri "$(URI)"

bench-parts: install ## Measure the balance of four partitions: make bench-parts URI=mongodb://...
	$(BIN)/python -m bench.partitions --uri "$(URI)"

bench-buckets: install ## Measure the evenness of buckets and the independence of salts: make bench-buckets [URI=mongodb://...]
	$(BIN)/python -m bench.buckets $(if $(URI),--uri "$(URI)")

bench-lookalike: install ## Measure accuracy and time of lookalikes (needs statsmodels, scikit-learn): URI=mongodb://...
	$(BIN)/python -m bench.lookalike --uri "$(URI)" --contacts "$(CONTACTS)"

SIZES ?= 100000x300000

bench-related: install ## Compare filters on related records with pymongo: make bench-related URI=mongodb://... [SIZES=...] [INDEX=--no-index]
	$(BIN)/python -m bench.related --uri "$(URI)" --sizes "$(SIZES)" $(INDEX)

bench-cancel: install ## Measure the database work after a StreamReach is cancelled: make bench-cancel URI=mongodb://...
	$(BIN)/python -m bench.cancel --uri "$(URI)"

bench-targeting: install ## Compare searches of the taxonomies with a bare call: make bench-targeting URI=mongodb://...
	$(BIN)/python -m bench.targeting --uri "$(URI)"

bench-gateway: install ## Compare requests to the HTTP gateway with the same RPCs: make bench-gateway URI=mongodb://...
	$(BIN)/python -m bench.gateway --uri "$(URI)"

bench-platform-trees: install ## Measure searches of an imported tree of 250,000 nodes: make bench-platform-trees URI=mongodb://...
	$(BIN)/python -m bench.platform_trees --uri "$(URI)"

MEMBERS ?= 1000000

bench-sync: install ## Compare the difference of a sync with a full export: make bench-sync URI=mongodb://... [MEMBERS=100000]
	$(BIN)/python -m bench.syncs --uri "$(URI)" --members "$(MEMBERS)"

FUZZED_CALLS ?= 1000
MIXED_CALLS ?= 20000

robustness: install ## Measure what slow and greedy clients do to others: make robustness URI=mongodb://... [FUZZED_CALLS=24000]
	$(BIN)/python -m bench.robustness --uri "$(URI)" --fuzzed-calls "$(FUZZED_CALLS)" --mixed-calls "$(MIXED_CALLS)"

taxonomies: install ## Build the taxonomies' data from the packages listed in scripts/taxonomies (needs npm)
	$(BIN)/python -m scripts.taxonomies

ROWS ?= 1000000

bench-upload: install ## Compare an upload with insert_many of its rows: make bench-upload URI=mongodb://... [ROWS=100000]
	$(BIN)/python -m bench.upload --uri "$(URI)" --rows "$(ROWS)"

clients: install ## Generate clients in TypeScript and Go in build/clients (needs the plugins listed in buf.gen.yaml)
	$(BIN)/buf generate

breaking: install ## Check that protos/ is compatible with the last tag, if there is one
	@base=$$(git describe --tags --abbrev=0 2>/dev/null) || { echo "no released contract"; exit 0; }; \
	echo "protos/ against $$base"; $(BIN)/buf breaking --against ".git#ref=$$(git rev-parse "$$base^{commit}")"

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --custom-compile-command "make lock"
LOCK := $(COMPILE) pyproject.toml --extra tracing

check-monitoring: install ## Check rules and dashboard with promtool and Prometheus, which must be installed (Debian: prometheus)
	$(BIN)/python -m scripts.check_monitoring

lock: install ## Update the locked versions within the limits of pyproject.toml
	$(LOCK) --upgrade --output-file requirements.lock
	$(LOCK) --upgrade --extra embedded --group dev --output-file requirements-dev.lock
	$(COMPILE) --upgrade --group browser --constraint requirements-dev.lock --output-file requirements-browser.lock

clean: ## Remove .venv, builds and caches
	rm -rf $(VENV) build dist .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
