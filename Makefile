# Everything here sets up what it needs by itself: no root, no Docker. Only Python 3.11 or newer and Java 17 must be there.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup test live-again browser promtool dashboard demo check lock campaign fuzz bench bench-quick bench-peers soak clean

PYTHON ?= python3
BIN := .venv/bin
# AGPL=1: also JPMML-SparkML, the converter to PMML, whose licence is the AGPL-3.0; nobody gets it unasked.
AGPL ?=
READY := .venv/.ready$(if $(AGPL),-agpl)
UV_VERSION := 0.13.8
CYCLONEDX_VERSION := 7.5.0
PIP_AUDIT_VERSION := 2.10.1
# One file is one worker's: its servers and models are started once. Jobs start and wait, so a third worker keeps two cores busy.
WORKERS ?= -n 3 --dist loadfile --no-loadscope-reorder
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --all-extras --group dev \
	--custom-compile-command "make lock" pyproject.toml

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

setup: $(READY) ## Make .venv with the locked packages and fetch the pinned jars (once; a few minutes; AGPL=1: the PMML converter too)
	@$(BIN)/python -m streaming.runtime.jars
	-@$(BIN)/python -m streaming.demo.record

test: setup browser promtool ## Run all tests: unit, Spark, and live against a real broker and real databases; three workers, a file each
	$(BIN)/pytest $(WORKERS) --durations 20

N ?= 10
live-again: setup ## Run the live tests N times in a row (N=10), until one fails: does any of them depend on luck?
	@for i in $$(seq $(N)); do printf '\n== live tests, run %s of %s\n' $$i $(N); $(BIN)/pytest $(WORKERS) tests/live || exit 1; done

browser: # A browser for the tests of the web page, where this machine lets us have one
	@bash scripts/browser.sh

promtool: # Prometheus and its own tool, for the tests of the alert rules and of what a job exports
	@bash scripts/promtool.sh

dashboard: $(READY) ## Write the Grafana dashboard anew from streaming/monitor/dashboard.py
	$(BIN)/python -m streaming.monitor.dashboard > docker/grafana/dashboards/streaming.json

demo: setup ## Run the whole service on this machine with generated events
	$(BIN)/streaming demo

check: $(READY) ## Formatting, lint, types, import contract and the tests that start nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit

lock: $(READY) ## Write requirements.lock anew from pyproject.toml (keeps versions that still fit; UPGRADE=1 takes the newest)
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv $(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements.lock

campaign: setup ## Run the long campaigns: kills and soaks
	$(BIN)/pytest -m campaign --timeout 3600

fuzz: setup ## Attack it in numbers: a thousand mutated models, a hundred thousand hostile records (FUZZ=50 for fewer models)
	$(BIN)/pytest -m campaign --timeout 7200 -s tests/*/test_fuzz_*.py

bench: setup ## Measure everything beside its peers, in about 15 minutes: benchmarks/RESULTS.md and a picture
	$(BIN)/python -m benchmarks suite

bench-quick: setup ## The same in about 3 minutes, fewer systems and rates: .cache/benchmarks/quick
	$(BIN)/python -m benchmarks suite --quick

bench-peers: $(READY) ## Install what `make bench` compares with (Quix Streams, Vowpal Wabbit, CapyMOA) into an environment of its own
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .cache/peers
	$(BIN)/uv pip install --quiet --python .cache/peers/bin/python --group bench-peers

soak: setup ## 30 minutes at 1,000 events/s with all lanes: does memory grow?
	$(BIN)/python -m benchmarks soak

sbom: setup ## List all parts (packages, jars with their sha256) as CycloneDX in build/sbom.json
	@mkdir -p build
	@$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv tool run --from cyclonedx-bom==$(CYCLONEDX_VERSION) cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --of JSON -o build/packages.json
	@$(BIN)/python scripts/sbom.py build/packages.json build/sbom.json

audit: sbom ## Ask for known vulnerabilities of packages and jars; says so when nobody can be asked
	@PIP_AUDIT_VERSION=$(PIP_AUDIT_VERSION) bash scripts/audit.sh

images: ## Pin the images of docker/ by digest (needs docker with buildx, and a registry)
	@bash scripts/pin-images.sh

clean: ## Remove .venv, the fetched jars and every cache of this checkout
	rm -rf .venv .cache build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an interrupted setup starts again. The version of uv is the Makefile's, so it depends on that too.
$(READY): requirements.lock pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" UV_VERSION="$(UV_VERSION)" AGPL="$(AGPL)" bash scripts/setup.sh
	@touch $@
