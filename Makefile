# One way in: people, CI and the README use these targets and no others.
# Works with the GNU make 3.81 that macOS ships: no .ONESHELL, no grouped targets.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Processes that share the tests; two suit two cores, and each wants some 3 GB with the workers that its tests start.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS)

# TORCH=cpu|cuda is the build of torch to have; empty keeps the one that is there, and takes the CPU's if none is.
# Where pip knows the CUDA build alone, empty takes that, with a hint; a build that is named is insisted on.
TORCH ?=
# A package index for torch alone that has the build you want: PyTorch's install page names one for CPU builds and
# one per CUDA version. Empty: pip's own configuration, which on Linux often knows the CUDA build only.
TORCH_INDEX ?=
TORCH_PIN := $(shell grep -oE 'torch==[0-9.]+' pyproject.toml | head -n 1)

# What `make test-fast` looks at.
FAST := tests/app tests/house tests/docs tests/packaging tests/hostile $(addprefix tests/worker/engine/,data onnx_graph plan measure)

# Image options: see docker/README.md.
BASE ?= python:3.11-slim-bookworm
TARGETS ?= api worker

# Stamps carry the kind of torch asked for, so that asking for another one is noticed.
ALL := $(VENV)/.installed-all$(TORCH)
DEMO := $(VENV)/.installed-demo$(TORCH)
BENCH := $(VENV)/.installed-bench$(TORCH)

.DEFAULT_GOAL := help
# The toolchains that `make toolchains` and `make test-targets` install; each is an environment of its own.
TOOLCHAINS ?= $(filter-out %-debian,$(basename $(notdir $(wildcard toolchains/*.txt))))

.PHONY: help setup setup-bench run demo test test-fast test-ci test-slow test-servers test-targets toolchains emulators lint bench results migrate image lock lock-emulator clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(ALL) ## Make .venv with everything (TORCH=cpu|cuda, TORCH_INDEX=URL choose torch's build)

setup-bench: $(BENCH) ## Add what `make bench` and `make results` compare with, and their tests (OpenVINO, a MiniLM)

run: $(DEMO) ## Start the service on embedded defaults: one process, data in ./pare-data
	$(BIN)/python -m worker embedded

demo: $(DEMO) ## One real job through the HTTP API, its report and artifact in ./demo-output
	$(BIN)/python examples/demo.py

test: $(ALL) ## Set up and run the tests, but for the slow ones (PYTEST_ARGS='tests/app/api -x' for less)
	$(PYTEST) -m 'not slow and not extended' $(PYTEST_ARGS)

test-fast: $(ALL) ## The service and the arithmetic of the engine, in two minutes: no servers, toolchains or trainings
	$(PYTEST) $(FAST) -m 'not slow and not extended and not real_stack and not toolchain' $(PYTEST_ARGS)

test-ci: $(ALL) ## What CI runs: everything but the extended tests; toolchains and servers must be there
	$(PYTEST) -m 'not extended' $(PYTEST_ARGS)

test-slow: $(ALL) ## What CI leaves out: networks of full size, a minute of fuzzing each, the benches' stories
	$(PYTEST) -m 'extended' $(PYTEST_ARGS)

test-servers: $(ALL) ## Make the environment of the tests' S3 server, which the first test that needs it makes otherwise
	$(BIN)/python -m tests.support.stack.swift_venv

toolchains: $(DEMO) ## Install the converters and runtimes of other formats into .toolchains (TOOLCHAINS=litert for one)
	$(BIN)/python -m worker toolchains install $(TOOLCHAINS)

emulators: $(DEMO) ## Install the emulated CPUs of `evaluate.devices` into .toolchains (0.5 GB, no root)
	$(BIN)/python -m worker toolchains install emulator

test-targets: $(ALL) toolchains ## Install the toolchains and test the targets and devices that need them
	PARE_TEST_TOOLCHAINS='$(TOOLCHAINS)' $(PYTEST) -m 'toolchain and not extended' $(PYTEST_ARGS)

lint: $(ALL) ## Style, formatting, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(BENCH) ## Measure every figure that the documentation publishes
	$(BIN)/python -m bench

results: $(BENCH) ## Train, compress and measure every technique and chain: docs/results.md anew
	$(BIN)/python -m bench.results

migrate: $(DEMO) ## Bring the database of PARE_DATABASE_URL up to date
	$(BIN)/python -m migrations

image: ## Build the container images with docker or buildah (BASE=image, TARGETS='api worker demo')
	BASE='$(BASE)' TORCH_INDEX='$(TORCH_INDEX)' docker/build-images.sh $(TARGETS)

lock: ## Pin every dependency anew in constraints.txt, from a fresh environment
	PYTHON='$(PYTHON)' TORCH_PIN='$(TORCH_PIN)' TORCH_INDEX='$(TORCH_INDEX)' docker/lock.sh constraints.txt

lock-emulator: $(ALL) ## Pin the emulators' Debian packages and wheels anew (needs Debian's gpgv and archive keyring)
	$(BIN)/python docker/lock_emulator.py

clean: ## Delete caches and build output; .venv and pare-data stay
	rm -rf build dist demo-output *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -path './$(VENV)' -prune -o -type d -name __pycache__ -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'Pare needs Python 3.11 or later: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch comes first and pinned: left to the resolver, a machine without a GPU gets gigabytes of CUDA.
$(VENV)/.torch$(TORCH): pyproject.toml | $(BIN)/python
	$(BIN)/python docker/install_torch.py '$(TORCH_PIN)' $(TORCH) $(if $(TORCH_INDEX),--index '$(TORCH_INDEX)')
	@touch $@

$(DEMO): $(VENV)/.torch$(TORCH) pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[worker,demo]'
	@touch $@

$(ALL): $(VENV)/.torch$(TORCH) pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[worker,dev]'
	@touch $@ $(DEMO)

$(BENCH): $(ALL)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	@touch $@
