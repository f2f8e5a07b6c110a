# Everything a developer or a first user types. Needs Python 3.11 (or newer), make and a network; no root, no Docker.
#
#   make demo        the main job, end to end, on images that need no download (DATASET=cifar10 for VGG-19 on CIFAR-10)
#   make serve       the whole service on this machine; Ctrl-C stops it
#   make test        every test                      (TESTS=tests/db or ARGS="-k claim" for some)
#   make hostile     the readers against thousands of hostile files, more of them than `make test` takes
#   make faults      a running service is killed, frozen and cut off for hours (ARGS="--fault cancel --moments 10" for some)
#   make lint        what the continuous integration checks beside the tests
#   make format      put the sources into shape
#   make bench       measure, and write benchmarks/results (BENCH="startup claim" for some)
#   make .env        random secrets for docker compose
#
# TORCH_INDEX=<address of PyTorch's index of CPU builds> saves the download of CUDA libraries on a machine without a GPU.

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
INSTALLED := .venv/installed
DATASET ?= digits
TESTS ?= tests
# Many tests wait for other processes, so four at a time keep two cores busy; each gets one torch thread, and takes
# some 2 GB with what its tests start.
PROCESSES ?= 4
BENCH ?= startup transfer claim queue history watchers overhead training data_loader channel_pruning factorization compact_size int8_speed read_exported proving

# Demo and tests start hundreds of processes: each would compile all that it imports where the shell forbids to keep it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo serve test hostile faults lint format bench clean

setup: $(INSTALLED)

# Installed again only when what is to be installed has changed.
$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=24'
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/python -m demo --dataset $(DATASET)

serve: setup
	$(BIN)/python -m service.serve

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder --durations=30 --durations-min=10 $(TESTS) $(ARGS)

hostile: setup
	$(BIN)/python -m tests.hostile

faults: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	@for name in $(BENCH); do $(BIN)/python -m benchmarks.$$name || exit 1; done
	@$(BIN)/python -m benchmarks

.env: | .env.example
	@umask 077 && $(PYTHON) deploy/new_env.py .env.example .env
	@echo "Wrote .env; keep it to yourself. Then: docker compose up --build --detach"

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
