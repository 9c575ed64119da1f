# `make demo` and `make test` set up all they need in .venv. Variables:
#   PYTHON       the Python 3.11+ to build .venv with
#   PIP_OPTIONS  passed to every pip install, e.g. another package index
#   TORCH        the torch requirement of the parity tests; elsewhere than on CPU-only indexes,
#                PIP_OPTIONS="--extra-index-url <PyTorch's CPU wheel index>" avoids the CUDA build
PYTHON ?= python3
PIP_OPTIONS ?=
TORCH ?= torch==2.13.0
PYTEST_OPTIONS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_OPTIONS)
WEIGHTS := work_dir/LiteMedSAM/lite_medsam.safetensors

.PHONY: demo test weights lint format clean

demo: .venv/demo.done weights
	$(BIN)/python infer.py -i demo/imgs -o demo/segs --overlay demo/overlays
	$(BIN)/python -m litemedsam_jax evaluate -s demo/segs -g demo/gts -csv_dir demo/segs/metrics.csv
	@echo "scores by case (DSC, NSD):"; cat demo/segs/metrics.csv
	@echo "overlays:"; ls demo/overlays/*.png

test: .venv/test.done lint
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

weights: .venv/demo.done
	$(BIN)/python -m litemedsam_jax weights --output $(WEIGHTS) --keep-pth

lint: .venv/test.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --platform linux
	$(BIN)/mypy --platform win32
	$(BIN)/mypy --platform darwin

format: .venv/test.done
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv

.venv/demo.done: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e .[tools]
	touch $@

.venv/test.done: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e .[test] $(TORCH)
	touch $@ .venv/demo.done

clean:
	rm -rf .venv work_dir demo/segs demo/overlays
