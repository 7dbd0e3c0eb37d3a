# spikeloop. `make` alone lists what there is to do; every target first makes the Python environment if it is not there.

.DEFAULT_GOAL := help
SHELL = /bin/sh

## Variables
PYTHON ?=#             Python 3.11 to 3.13 that the environment is made with (default: the first one found)
VENV ?= .venv#         Folder of the Python environment
JOBS ?= 2#             Processes that the tests use
ARGS ?=#               Further options for the command behind the target, for example ARGS="-k die" or ARGS="--die 7"
LAYERS ?= 30,15,2#     verilog: number of inputs, then of neurons of each layer
LANES ?= 8#            verilog: synapses handled in a clock cycle (a power of two, 4 to 128)
WEIGHT_BITS ?= 8#      verilog: width of a weight
STATE_BITS ?= 24#      verilog: width of currents and membranes
NAME ?= spikeloop#     verilog: name of the top module and of the file
BOARD ?= icebreaker#   bitstream: board, as `spikeloop fit` lists them
SYSTEM ?= mh#          reproduce: the study
QUICK ?=#              reproduce: 1 for a small subset

BIN = $(VENV)/bin
READY = $(VENV)/.spikeloop-installed
# Tests that build simulators come first, and a process without work takes some from the other.
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

## Targets
.PHONY: help
help: ## This list
	@echo 'Usage: make TARGET [VARIABLE=value ...]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Variables (default):'
	@awk -F ' *[?]=|# +' '/^[A-Z_]+ [?]=/ { gsub(/ /, "", $$2); \
	  printf "  %-12s %s%s\n", $$1, $$3, ($$2 == "" ? "" : " (" $$2 ")") }' Makefile

.PHONY: setup
setup: $(READY) ## Only make the Python environment

.PHONY: sim
sim: $(READY) ## The main job: train on real data with the simulated chip in the loop, print the result table
	$(BIN)/spikeloop demo $(ARGS)

.PHONY: test
test: $(READY) ## The fast tests, those on the simulated chip included
	$(PYTEST) -m "not slow" testbench tests $(ARGS)

.PHONY: test-slow
test-slow: $(READY) ## The long tests
	$(PYTEST) -m slow testbench tests $(ARGS)

.PHONY: lint
lint: $(READY) ## Formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: verilog
verilog: $(READY) ## The chip as build/verilog/NAME.v
	$(BIN)/spikeloop verilog --layers $(LAYERS) --lanes $(LANES) --weight-bits $(WEIGHT_BITS) \
	  --state-bits $(STATE_BITS) --name $(NAME) $(ARGS)

.PHONY: bitstream
bitstream: $(READY) ## The chip for BOARD in build/BOARD, of the board's own sizes unless LAYERS are given [LAYERS=...]
	$(BIN)/spikeloop bitstream --board $(BOARD) \
	  $(if $(filter command line environment,$(origin LAYERS)),--layers $(LAYERS)) $(ARGS)

.PHONY: bench
bench: $(READY) ## Speed and cost of simulated chip and golden model, measured side by side
	$(BIN)/spikeloop bench $(ARGS)

.PHONY: reproduce
reproduce: $(READY) ## A published study on the simulated chip: SYSTEM=mh, ssnn-bp, delgrad or bisnn [QUICK=1]
	$(BIN)/spikeloop reproduce $(SYSTEM) $(if $(filter-out 0,$(QUICK)),--quick) $(ARGS)

.PHONY: formal
formal: $(READY) ## The formal proofs, and docs/formal.md; ARGS="sender walker-plain" for some of them
	$(BIN)/python -m testbench.formal --jobs $(JOBS) $(ARGS)

.PHONY: docs
docs: $(READY) ## Write docs/registers.md anew from the code
	$(BIN)/python -m rtl.docs $(ARGS)

.PHONY: clean
clean: ## Remove what can be made again; keeps the environment and runs/
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find rtl pymodel testbench host tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. Its stamp is older than pyproject.toml when the dependencies may have changed.
$(READY): pyproject.toml
	@if ! "$(BIN)/python" -c '' 2>/dev/null; then \
	  found=; \
	  for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	    if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then \
	      found=$$python; break; \
	    fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo 'Error: $(if $(PYTHON),"$(PYTHON)" is not Python 3.11$(comma) 3.12 or 3.13,Python 3.11$(comma) 3.12 or 3.13 was not found on PATH): install it (Debian: apt-get install python3 python3-venv) or name one with make PYTHON=/path/to/python3.' >&2; \
	    exit 2; \
	  fi; \
	  if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "Error: $$found cannot make virtual environments: install its venv module (Debian: apt-get install python3-venv)." >&2; \
	    exit 2; \
	  fi; \
	  echo "Making the Python environment $(VENV) with $$("$$found" --version)"; \
	  "$$found" -m venv "$(VENV)" || exit 2; \
	fi
	@echo 'Installing spikeloop and what it needs into $(VENV) (once, a minute or two)'
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch "$@"

comma := ,
