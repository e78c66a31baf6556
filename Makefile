# `make demo` and `make test` do all set-up themselves; a second run installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch 2.13.0 has a CPU build on every index anyref is developed with; any torch >= 2.6 works
TORCH ?= torch==2.13.0
STAMP := $(VENV)/.installed
export OMP_WAIT_POLICY := passive
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# `make gpu` (docs/gpu.md) makes no environment: it uses the PYTHON given, else $(VENV), else python3
GPU_PYTHON := $(if $(filter file,$(origin PYTHON)),$(firstword $(wildcard $(BIN)/python) $(PYTHON)),$(PYTHON))
WHEELS ?=
BASES ?=
RESUME ?=
DATA ?= data
OUT ?= out/gpu
MINUTES ?= 9
PARTS ?= tests table magref kaleido
SET ?=
JOBS ?= 2
SERVE ?=

.PHONY: demo serve test test-slow lint types check clean gpu gpu-check

demo: $(STAMP)
	$(BIN)/python examples/demo.py out/demo

serve: $(STAMP)
	$(BIN)/anyref serve $(SERVE)

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow and not gpu"

lint: $(STAMP)
	$(BIN)/ruff check --no-cache . # its cache does not see a helper module move
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

$(STAMP): pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

gpu:
	$(GPU_PYTHON) benchmarks/gpu_slice.py --parts "$(PARTS)" --data "$(DATA)" --out "$(OUT)" \
		--minutes $(MINUTES) $(if $(WHEELS),--wheels "$(WHEELS)") \
		$(if $(BASES),--bases "$(BASES)") $(if $(RESUME),--resume "$(RESUME)") $(SET)

gpu-check:
	$(GPU_PYTHON) benchmarks/gpu_slice.py --check --data "$(DATA)" \
		$(if $(WHEELS),--wheels "$(WHEELS)")

clean:
	rm -rf $(VENV) out
