# Everything runs in .venv, which a stamp file rebuilds when pyproject.toml changes.
# Needs only python3 (3.11 or newer, with venv) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH_STAMP := $(VENV)/.torch
CUDA_STAMP := $(VENV)/.cuda
PARITY_STAMP := $(VENV)/.parity

.DEFAULT_GOAL := help
.PHONY: help run test lint types parity test-cuda test-gpu wheel bench bench-gpu examples quickstart clean

help:
	@echo "make run     set up, then: a recommendation, a real study, the tuned config as PyTorch code"
	@echo "make test    set up, then run the tests"
	@echo "make test-cuda   the GPU kernels without a GPU: on numba's simulator, and compiled to PTX and machine code"
	@echo "make test-gpu    the same tests on this machine's GPU"
	@echo "make bench-gpu   this machine's GPU against its own memory limit and PyTorch's fused optimizer"
	@echo "make examples  the four PyTorch examples, and their tables in docs/examples.md"
	@echo "make lint | types | parity | wheel | bench | clean"

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "optadvisor needs Python 3.11 or newer, this is %d.%d: make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(TORCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@touch $@

$(CUDA_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,cuda]'
	@touch $@

$(PARITY_STAMP): $(TORCH_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 expecttest==0.3.0 jax==0.10.2 optax==0.2.8 keras==3.15.1 \
		transformers==5.24.0 accelerate==1.15.0 lightning==2.6.6 tensorboard==2.21.0
	@touch $@

run: $(STAMP)
	$(BIN)/optadvisor recommend --domain vision --architecture mlp --parameters 2410 --samples 1200 --batch-size 32
	$(BIN)/optadvisor tune digits-mlp --trials 100 --seed 0
	$(BIN)/optadvisor config digits-mlp --framework torch

test: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --dist loadgroup

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

parity: $(PARITY_STAMP) $(CUDA_STAMP)
	$(BIN)/python -m pytest -q -n auto --dist loadgroup -m parity
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest -q tests/frameworks/torch/test_on_gpu.py

test-cuda: $(CUDA_STAMP)
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest -q -n auto tests/kernels/cuda
	$(BIN)/python -m pytest -q -n auto tests/kernels/cuda/test_ptx.py tests/kernels/cuda/test_launches.py

test-gpu: $(CUDA_STAMP)
	$(BIN)/python -c 'from optadvisor.kernels.cuda import target; target.require(0)'
	$(BIN)/python -m pytest -q tests/kernels/cuda

bench-gpu: $(CUDA_STAMP) $(TORCH_STAMP)
	$(BIN)/python benchmarks/gpu.py

wheel: $(STAMP)
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist

bench: $(TORCH_STAMP)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/digits_study.py
	$(BIN)/python benchmarks/trainings.py
	$(BIN)/python benchmarks/monitor.py
	$(BIN)/python benchmarks/kernels.py --markdown docs/performance-table.md --picture docs/performance.png

examples: $(TORCH_STAMP)
	$(BIN)/python examples/all.py docs/examples.md

quickstart: wheel
	$(BIN)/python examples/quickstart/session.py dist/optadvisor-*.whl docs/quickstart.md

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
