# Everything that one can do here; `make` alone lists it.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# Idle OpenMP threads sleep instead of spinning: on a machine that does anything else, spinning costs more than all the work.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help install train test lint format bench figures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(READY) ## make .venv and install torch and the package with all that the other targets need

$(READY): pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[train,dev]'
	touch $@

train: $(READY) ## train SeGMA on scikit-learn's digits with 10 labels a class; leaves runs/digits
	$(BIN)/segma-fast train --run-dir runs/digits --overwrite

test: $(READY) ## run the tests
	$(BIN)/python -m pytest

lint: $(READY) ## ruff, its formatter and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: export OMP_WAIT_POLICY = ACTIVE
bench: $(READY) ## time the backends against the reference, side by side
	$(BIN)/python -m pytest benchmarks --benchmark-group-by=param:rows,param:dim --benchmark-columns=median,iqr,rounds

figures: train ## train, and copy the pictures into docs/images
	mkdir -p docs/images
	cp runs/digits/samples.png runs/digits/reconstructions.png runs/digits/interpolations.png \
		runs/digits/transfer.png runs/digits/codes.png docs/images/

clean: ## delete the environment and what tools left; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .benchmarks
