# All tasks of this repository; `make` without a target lists them.
PYTHON ?= python3
TORCH ?= torch==2.13.0
OLDEST_TORCH ?= torch==2.11.0
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
BENCH_READY := $(VENV)/.bench-installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Installs the dependencies of the given extras, without the package itself.
install_extras = $(BIN)/python -c 'import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
	print(*(name for extra in "$(1)".split() for name in extras[extra]), sep="\n")' > $(VENV)/requirements.txt && \
	$(PIP) --requirement $(VENV)/requirements.txt
STARTED := $(shell date +%F-%H%M)
BENCH_JSON ?= benchmarks/results/cpu-$(STARTED).json
SCALING_JSON ?= benchmarks/results/scaling-cpu-$(STARTED).json
GPU_SECONDS ?= 300
GPU_PYTHON ?= python3.12
GPU_TORCH ?= torch==2.11.0
GPU_TRITON ?= triton==3.6.0
STAGES ?=
MNIST ?= ./mnist
SANITIZED := build/sanitized
TEST_WORKERS ?= 2
CSRC := $(wildcard csrc/*.* csrc/*/*.* csrc/*/*/*.*)

# Idle OpenMP threads spin shortly and then sleep: on a machine with other load, spinning costs more than the actual work.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 10000

.DEFAULT_GOAL := help
.PHONY: help install train explore test test-all compile-all sanitize lint format bench bench-readme bench-check bench-large-batch exact-phi experiments gpu gpu-smoke gpu-times gpu-tests gpu-tune gpu-bench gpu-train gpu-pack figures docs wheel wheels release hub-kernels clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(READY) ## make .venv, install torch and the package with all that the other targets need, build the kernels

$(READY): pyproject.toml setup.py $(CSRC)
	@echo 'Installing, some three minutes, longer with kernels for GPUs: 1/4 an environment in $(VENV)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo '2/4 $(TORCH), 200 MB'
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --disable-pip-version-check '$(TORCH)'
	@echo '3/4 what the trainer and the tests need, 300 MB'
	@$(call install_extras,train explore dev docs)
	@echo '4/4 the kernels, file by file; `SEGMA_FAST_CUDA=0 make install` leaves out those for GPUs'
	@$(BIN)/python .ci/watch_build.py $(BIN)/python -m pip install --verbose --disable-pip-version-check \
		--no-build-isolation --no-deps --editable .
	@touch $@

train: $(READY) ## train SeGMA on scikit-learn's digits with 10 labels a class; leaves runs/digits
	$(BIN)/segma-fast train --run-dir runs/digits --overwrite

explore: $(READY) ## a page in the browser to play with the model that make train left
	$(BIN)/segma-fast explore

test: $(READY) ## the quick tests, three minutes, TEST_WORKERS files at a time
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

test-all: export SEGMA_FAST_TESTS ?= all
test-all: $(READY) ## all tests, a quarter of an hour: wide grids, the kernels for GPUs emulated on the CPU, builds, processes
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

compile-all: $(READY) ## compile the kernels for GPUs for every architecture and precision, half an hour; needs nvcc for CUDA's
	SEGMA_FAST_TESTS=all SEGMA_FAST_COMPILE_ALL=1 $(BIN)/python -m pytest tests/gpu/test_triton_compile.py tests/gpu/test_cuda_compile.py -n 2 --dist loadfile

# Python itself is not sanitized, so the sanitizer's run-time libraries must be preloaded. Both commands keep the
# working directory, whose kernels are not sanitized, off Python's path.
sanitize: PRELOAD = $$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libstdc++.so)
sanitize: export ASAN_OPTIONS = detect_leaks=0
sanitize: export PYTHONPATH = $(abspath $(SANITIZED)/lib)
sanitize: $(READY) ## test the kernels with the address and undefined behaviour sanitizers of gcc
	SEGMA_FAST_SANITIZE=1 SEGMA_FAST_REQUIRE_NATIVE=1 $(BIN)/python setup.py --quiet build \
		--build-temp $(SANITIZED)/objects --build-lib $(SANITIZED)/lib
	LD_PRELOAD="$(PRELOAD)" $(BIN)/python -P -c 'from segma_fast.distance.backends import extension; assert extension.build_info()["sanitized"]'
	SEGMA_FAST_TESTS=all LD_PRELOAD="$(PRELOAD)" $(BIN)/python -P -m pytest tests/distance/test_accuracy.py tests/distance/test_operator.py tests/distance/test_profile.py -k native

lint: $(READY) ## ruff, mypy, the formatters, and what is wrong with the workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CSRC) tests/gpu_model/*
	$(BIN)/mypy
	$(BIN)/zizmor --offline --quiet .github && $(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*

format: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CSRC) tests/gpu_model/*

# By default the C library returns the matrices of plain torch to the system after each call and gets zeroed pages for
# the next, which takes up to half of plain torch's time. These settings make it keep the memory, for all contenders;
# they hardly change the times of segma_fast.
bench bench-check: export MALLOC_MMAP_MAX_ = 0
bench bench-check: export MALLOC_TRIM_THRESHOLD_ = 17179869184
bench bench-check: export MALLOC_TOP_PAD_ = 268435456
bench bench-check: export OMP_WAIT_POLICY = ACTIVE
bench bench-check: export GOMP_SPINCOUNT = INFINITY
bench: $(BENCH_READY) ## time the backends and their peers side by side, about 35 quiet minutes; leaves BENCH_JSON and SCALING_JSON
	$(BIN)/python -m pytest benchmarks/suites --ignore=benchmarks/suites/test_large_batch.py -rs --benchmark-quiet --records=$(BENCH_JSON)
	$(BIN)/python -m benchmarks.suites.scaling --out $(SCALING_JSON)
	$(BIN)/python -m benchmarks.report.tables $(BENCH_JSON)

bench-readme: $(READY) ## put the newest results of make bench into the README and docs/benchmarks.md, and draw them
	$(BIN)/python -m benchmarks.report.update_docs

bench-check: $(READY) ## fail if a factor over the eager reference is far below that of the newest result, two quiet minutes
	$(BIN)/python -m benchmarks.report.check_factors

bench-large-batch: $(READY) ## time a training step in micro-batches and all at once, 5 minutes; leaves docs/large_batches.md
	$(BIN)/python -m pytest benchmarks/suites/test_large_batch.py -rs --benchmark-quiet \
		--records=benchmarks/results/large-batch-$(STARTED).json
	$(BIN)/python -m benchmarks.report.tables $$(ls -t benchmarks/results/large-batch-*.json | head -1) docs/large_batches.md

exact-phi: $(READY) ## measure what the exact form of φ changes, about 20 minutes; leaves docs/exact_phi.md
	$(BIN)/python -m benchmarks.studies.exact_phi

# These targets use PYTHON and its installed packages, because torch for a GPU is large and comes in many variants.
# Results go to OUT, by default a folder in benchmarks/results.
GPU_OUT = $(if $(OUT),$(OUT),benchmarks/results/gpu-$(STARTED))
gpu: ## on a machine with a GPU, without a virtual environment: build, smoke, times, tests in GPU_SECONDS; or the STAGES named
	$(PYTHON) -m benchmarks.gpu.stages $(STAGES) --out $(GPU_OUT) --seconds $(GPU_SECONDS)

gpu-smoke gpu-times gpu-tests gpu-tune gpu-bench gpu-train: gpu-%: ## one stage of make gpu
	$(PYTHON) -m benchmarks.gpu.stages build $* --out $(GPU_OUT) --seconds $(GPU_SECONDS)

gpu-pack: ## prebuild in .gpu what make gpu needs, for GPU_PYTHON, GPU_TORCH, GPU_TRITON; needs nvcc but no GPU
	test -x .venv-gpu/bin/python || $(GPU_PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet '$(GPU_TORCH)' '$(GPU_TRITON)' numpy 'setuptools>=77,<82' 'pybind11>=2.13' ninja wheel
	.venv-gpu/bin/python -m benchmarks.gpu.pack .gpu

$(BENCH_READY): $(READY)
	$(call install_extras,bench)
	touch $@

figures: train bench-readme ## the pictures of README and docs: train on digits, draw the newest results of make bench and examples/lejepa.py
	mkdir -p docs/images
	cp runs/digits/samples.png runs/digits/reconstructions.png runs/digits/interpolations.png \
		runs/digits/transfer.png runs/digits/codes.png runs/digits/curves.png runs/digits/confusion.png docs/images/
	$(BIN)/python examples/lejepa.py --figure docs/images/lejepa.png

experiments: $(READY) ## train SeGMA on the MNIST of the folder MNIST, 7 hours on one core; leaves tables and pictures in docs/experiments.md
	$(BIN)/segma-fast reproduce mnist --dataset $(MNIST) --hidden 256 256 --preset tuned --seeds 5 --budget 398m
	$(BIN)/python -m benchmarks.studies.experiments_page runs/reproduce/mnist-tuned

docs: $(READY) ## build the documentation's site in build/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo build/site/index.html

wheel: $(READY) ## build the sdist and, with the kernels, the wheel into dist/
	$(BIN)/python -m build --no-isolation

wheels: ## for each Python that is found, a manylinux wheel with the kernels for CPUs in dist/, tried with the newest and OLDEST_TORCH
	OLDEST='$(OLDEST_TORCH)' .ci/wheels

release: ## the sdist and, in manylinux's own containers, which need Docker, the wheels of a release, in dist/
	$(PYTHON) -m venv build/release
	build/release/bin/python -m pip install --quiet --disable-pip-version-check cibuildwheel==4.3.5 'build>=1.3'
	build/release/bin/python -m build --sdist
	build/release/bin/python -m cibuildwheel --platform linux --output-dir dist

hub-kernels: ## the distance in the layout of Hugging Face's kernel-builder, in build/hub: compiled, and in Python alone
	$(PYTHON) .ci/hub_kernel.py build/hub

clean: ## delete the environments and what tools and builds left; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .benchmarks
	rm -f segma_fast/_C.*.so segma_fast/_C.*.pyd segma_fast/_build_note*.txt
