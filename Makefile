# Everything a person does here. `make` alone prints the list.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs
PYTEST_WORKERS ?= 2
# Arguments for one run: make test ARGS="tests/engine -k window"
ARGS ?=
CODE := mlflow_core tests $(wildcard benchmarks examples feature_repo pipelines)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(STAMP) servers ## build .venv with everything needed, and warm the kernel caches

# Debian may ship venv without ensurepip: then the system's pip fills the environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Say: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
	  else $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $@ install -qq pip; fi

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (about 2 GB; some minutes the first time)"
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev]'
	@cd "$$(mktemp -d)" && "$(CURDIR)/$(BIN)/mlcore" doctor --warm # of this machine: a project may want its own upgrade
	@touch $@

# Without them tests that start a Redis server fail; those that start PostgreSQL (where the environment variable CI is
# not set) or hosts of their own are skipped, and say so.
SERVERS = $(if $(shell ls /usr/lib/postgresql/*/bin/pg_ctl 2>/dev/null || command -v pg_ctl),,postgresql) \
  $(if $(shell command -v redis-server),,redis-server) \
  $(if $(shell command -v ip),,iproute2)
.PHONY: servers
servers: ## what tests start beside Python, as Debian packages: PostgreSQL, Redis, network namespaces; needs root
	@test -z "$(strip $(SERVERS))" \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	       && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $(SERVERS) >/dev/null; } \
	  || echo "$(strip $(SERVERS)) not installed: tests that need it fail or are skipped." >&2

.PHONY: test
test: $(STAMP) servers ## the test suite, under 10 minutes on 2 cores
	$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --dist loadfile --durations=15 -m "not long and not gpu" $(ARGS)

.PHONY: test-long
test-long: $(STAMP) ## the tests that take long, after the others have passed
	$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --dist loadfile --durations=15 --timeout=3600 -m "long and not gpu" $(ARGS)

.PHONY: coverage
coverage: $(STAMP) ## the test suite again, with the branches it misses
	$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --dist loadfile -m "not long and not gpu" --cov --cov-report=term $(ARGS)

# Feast's tests are in its git only, and want an older pytest: they get an environment of their own on top of ours.
# The code tested is this folder's, whatever .venv is installed from; caches are the run's own, so that another version
# of this code at work on this machine writes its layouts elsewhere.
FEAST ?=
# Where retrieval runs: in-process, local (a cluster of this machine's cores), or nothing for both.
ROUTE ?=
SUITE := .mlcore/feast-suite
.PHONY: feast-suite
feast-suite: $(STAMP) ## Feast's own retrieval tests on our store: make feast-suite FEAST=/path/to/its/checkout
	@test -d "$(FEAST)/sdk/python/tests" || { echo "Say where Feast is checked out: make feast-suite FEAST=/path/to/feast" >&2; exit 1; }
	@test -x $(SUITE)/bin/python || $(BIN)/python -m venv --without-pip $(SUITE)
	@$(BIN)/python -m pip --python $(SUITE)/bin/python install -qq -r tests/feast/universal/requirements.txt
	@echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	  > "$$($(SUITE)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/development.pth"
	@cache="$$(mktemp -d)"; trap 'rm -rf "$$cache"' EXIT; set -x; cd "$(FEAST)/sdk/python"; \
	env PYTHONPATH="$(CURDIR)/tests/feast/universal:.:$(CURDIR)" XDG_CACHE_HOME="$$cache" MLCORE_SUITE_ROUTE="$(ROUTE)" \
	  IS_TEST=True FEAST_IS_LOCAL_TEST=True FULL_REPO_CONFIGS_MODULE=mlcore_stores \
	  "$(CURDIR)/$(SUITE)/bin/python" -m pytest -q -p no:cacheprovider -o addopts= \
	  --tb=short --timeout=1800 --integration -m "not ray_offline_stores_only" \
	  --ignore=tests/integration/offline_store/test_dqm_validation.py tests/integration/offline_store $(ARGS)

.PHONY: demo
demo: $(STAMP) ## the flagship: flights of 2013, from files to a prediction, under 3 minutes
	$(BIN)/python -m pipelines.demo $(ARGS)

.PHONY: lint
lint: $(STAMP) ## format, rules, types, layers, dependencies, spelling, links: under a minute
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/codespell
	$(BIN)/python -m pytest -q -p no:xdist tests/house/test_links.py
	$(MKDOCS) build --quiet --strict --site-dir "$$(mktemp -d)"

.PHONY: format
format: $(STAMP) ## let ruff format the code and mend what it can
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

.PHONY: docs
docs: $(STAMP) ## the documentation into site/, warnings are errors
	$(MKDOCS) build --strict

bench-online: SERVERS += $(if $(shell command -v wrk),,wrk) $(if $(shell command -v redis-benchmark),,redis-tools)
bench-online: servers ## that benchmark, and what it drives servers with, as Debian packages
bench-train-gpu: $(STAMP) ## what training reaches on this machine's card; without one it says so
	$(BIN)/python -m benchmarks.train.gpu $(ARGS)
bench-%: $(STAMP) ## one benchmark, e.g. make bench-engine; results go to benchmarks/results/
	$(BIN)/python -m benchmarks.$* $(ARGS)

# These extras are not part of development's environment, but their versions are agreed.
UNINSTALLED_PINS := torch==2.13.0 dask-kubernetes==2026.3.0
.PHONY: constraints
constraints: $(STAMP) ## write constraints.txt from what .venv holds: names and versions only
	@{ echo '# Versions that development, tests and the demo run on. Names and versions only; `make constraints` writes it.'; \
	   { $(BIN)/python -m pip freeze -qq --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[0-9][^ @+]*$$' | grep -viE '^(torch|dask-kubernetes|mlflow-core)=='; \
	     printf '%s\n' $(UNINSTALLED_PINS); } | LC_ALL=C sort -f; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt
	@touch $(STAMP)

.PHONY: clean
clean: ## remove what was built here, .venv and caches included
	rm -rf $(VENV) site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
