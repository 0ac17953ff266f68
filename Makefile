# Caravan. `make help` lists the targets. All set-up is done on the way: a Python 3.11 or 3.12, make and a C compiler are enough.
#   PYTHON=...      the Python to make .venv with (default: the first of python3.12, python3.11, python3 that runs)
#   RECIPE= CORPUS= SHARDS= SEED=    another input for an acceptance or the bench; RECIPE for the demo too
#   EXECUTION=...   where and how the demo runs (default flows/execution/local.yaml)

SHELL := /bin/sh
.DELETE_ON_ERROR:
.SUFFIXES:

BIN := .venv/bin
RUN := $(BIN)/python
CODE := flows pipeline training storage benchmarks scripts tests
PYTEST_ARGS ?=
DEMO_RECIPE := $(if $(RECIPE),$(RECIPE),flows/recipes/demo.yaml)
EXECUTION ?= flows/execution/local.yaml
INPUT = $(if $(RECIPE),--recipe "$(RECIPE)") $(if $(CORPUS),--corpus "$(CORPUS)") $(if $(SHARDS),--shards "$(SHARDS)") $(if $(SEED),--seed "$(SEED)")

export PYTHON
export OMP_NUM_THREADS ?= 1
export DO_NOT_TRACK := 1
export HF_HUB_OFFLINE := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS := 120

# `make accept-NAME` runs tests/acceptance/NAME.py (dashes are underscores there), whose first line says what it shows.
ACCEPTANCES := demo rerun object-store cuts-and-kills deployments mixture parity corpus text held-out judgement bad-input chaos clean-clone

.PHONY: help demo test check format bench minio setup setup-venv lock clean $(ACCEPTANCES:%=accept-%)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9 -]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Each acceptance shows one thing for real, and prints what it found beside what is asked; RECIPE= CORPUS= SHARDS= SEED= give it another input:"
	@for name in $(ACCEPTANCES); do \
		printf '  make %-21s %s\n' "accept-$$name" "$$(sed -n '1 { s/^"""//; s/"""$$//; p; q; }' "tests/acceptance/$$(echo "$$name" | tr - _).py")"; \
	done

setup: setup-venv  ## everything that the other targets need: .venv, the language model, the MinIO server
	@sh scripts/setup.sh minio

setup-venv:
	@sh scripts/setup.sh venv models

demo: setup-venv  ## raw pages to an evaluated, exported checkpoint and its report, on this machine
	@$(BIN)/caravan run --recipe "$(DEMO_RECIPE)" --execution "$(EXECUTION)"

test: setup  ## the whole test suite, MinIO included
	@$(RUN) -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

check: setup-venv  ## what CI checks: ruff, format, types, layers, the project's own rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(RUN) -m pytest -q tests/test_layers.py tests/test_project.py

format: setup-venv  ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(ACCEPTANCES:%=accept-%): accept-%: setup
	@$(RUN) -m tests.acceptance.$(subst -,_,$*) $(INPUT)

bench: setup  ## each figure beside its peer's on the same input, and a worker's memory; CORPUS= SEED= give it another input
	@sh scripts/setup.sh peers
	@$(RUN) -m benchmarks $(if $(CORPUS),--corpus "$(CORPUS)") $(if $(SEED),--seed "$(SEED)")

minio: setup  ## a MinIO server on this machine, in the foreground; prints the variables to set
	@$(RUN) -m scripts.minio

lock: setup-venv  ## write the locks anew: requirements.txt, and those of the benchmarks' peers
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 \
		--generate-hashes --no-annotate --output-file requirements.txt requirements.in requirements-dev.in
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 \
		--generate-hashes --no-annotate --output-file benchmarks/peers/datatrove.txt benchmarks/peers/datatrove.in

clean:  ## remove .venv and caches (what runs wrote, .caravan, stays; so does the per-user cache)
	rm -rf .venv build *.egg-info pipeline/native/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
