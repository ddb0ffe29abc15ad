# Everything runs from a virtual environment in .venv, made here from exact versions.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/lock
PIP := $(BIN)/python -m pip --disable-pip-version-check

# make demo
NODES ?= 3
DURATION ?=
# make test: ARGS="tests/host -k certs" runs a part
ARGS ?=
# Half again as many as cores: the stories mostly wait for the clock of their nodes.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) * 3 / 2)))

export BROKER MICROPYTHON

.DEFAULT_GOAL := help
.PHONY: help venv demo test bench accuracy events calibration-report detection lint build wheel lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

# The stamp holds the place and the lock file that .venv was made from.
venv: ## Make .venv from requirements.lock, if that has changed
	@if { pwd; cat requirements.lock; } | cmp -s - $(STAMP); then :; else \
	  set -e; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }; \
	  echo "Preparing .venv with the pinned packages of requirements.lock (once, about a minute)"; \
	  $(PYTHON) -m venv --clear .venv; \
	  $(PIP) install -qq --no-deps --no-compile --requirement requirements.lock; \
	  $(PIP) install -qq --no-deps --no-build-isolation --editable .; \
	  { pwd; cat requirements.lock; } > $(STAMP); \
	fi

demo: venv ## Run a virtual bench with live view: NODES=3 DURATION=30 BROKER=mosquitto MICROPYTHON=…
	@echo "Starting the demo: $(NODES) virtual nodes, broker and shadow service (Ctrl-C ends it)"
	@$(BIN)/gridnode demo --nodes $(NODES) $(if $(DURATION),--duration $(DURATION))

test: lint ## Run all checks and tests: ARGS="tests/host -k certs" MICROPYTHON=…
	@echo "Running the tests: host, device (inside the MicroPython VM) and virtual rig"
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

bench: venv ## Measure start, speed and memory, print a table and JSON: CLONE=1
	@echo "Measuring start, speed and memory on the virtual bench"
	@$(BIN)/gridnode bench $(if $(CLONE),--clone)

accuracy: venv ## Measure every front end against truth: table, JSON and plots in build/accuracy
	@echo "Measuring the accuracy of every front end on the virtual bench (some 20 minutes)"
	@$(BIN)/gridnode bench accuracy

events: venv ## Count found and false supply events: table, JSON and plots in build/events
	@echo "Counting supply events on the virtual bench (some 20 minutes)"
	@$(BIN)/gridnode bench events

calibration-report: venv ## Calibrate 200 simulated units and 12 nodes, try bad inputs: build/calibration
	@echo "Calibrating simulated units and whole nodes on the virtual bench (some 10 minutes)"
	@$(BIN)/gridnode bench calibration

detection: venv ## Compare the anomaly detector with others: NAB=folder SHORT=1 DETECTOR=node, build/detection
	@echo "Judging streams with known faults (some two hours; SHORT=1: 10 minutes, DETECTOR=node: 6)"
	@$(BIN)/gridnode bench detection $(if $(NAB),--nab $(NAB)) $(if $(SHORT),--short) $(if $(DETECTOR),--detector $(DETECTOR))

lint: venv ## Check style and types of host tools and firmware
	@echo "Checking style and types"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python tests/typecheck_firmware.py

build: venv ## Compile the firmware images into build/image
	@echo "Compiling the firmware"
	@$(BIN)/gridnode build

wheel: venv ## Build the wheel of the host tools into dist
	@echo "Building the wheel"
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

lock: ## Renew requirements.lock from the newest versions that pyproject.toml allows
	@echo "Resolving the newest versions"
	@$(PYTHON) -m venv --clear build/lock
	@build/lock/bin/python -m pip --disable-pip-version-check install -qq '.[bench,dev]'
	@{ sed -n '/^#/p' requirements.lock; build/lock/bin/python -m pip \
	  --disable-pip-version-check freeze --exclude gridnode; } > build/requirements.lock
	@mv build/requirements.lock requirements.lock && rm -r build/lock

clean: ## Remove build products and .venv (keys in certs/generated stay)
	@rm -rf build dist .venv .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
