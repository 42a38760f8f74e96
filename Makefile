# Every target sets up its own virtual environment first: a fresh clone needs Python >= 3.11, pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo-output
# Compiled modules are kept: where that is switched off, each of some hundred processes compiles its own.
unexport PYTHONDONTWRITEBYTECODE
# Threads that wait for work should sleep: on a busy machine spinning costs more than it saves.
export OMP_WAIT_POLICY ?= passive
export GOMP_SPINCOUNT ?= 0

.PHONY: help setup demo test lint types layers docs check prove bench lock clean

help:
	@echo "make demo    the whole way on made data with known truth (OUT=$(OUT))"
	@echo "make test    the tests            make check   test, lint, types, layers, docs"
	@echo "make prove   full-size proofs, results under docs/results/"
	@echo "make bench   timings and memory, as ratios to yardsticks of the same run"
	@echo "make lock    renew requirements.lock (needs uv)      make clean"

# Modules are compiled when they are first imported: all of them would take as long as the rest. Those of all
# commands are, at the end, by asking for help.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "offbragg needs Python >= 3.11, found " + sys.version.split()[0] + ": set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/offbragg --help > /dev/null
	@touch $@

setup: $(READY)

demo: $(READY)
	$(BIN)/offbragg demo --out $(OUT)

# What tests compute is small: a second thread for it costs more than it brings.
test: export OPENBLAS_NUM_THREADS = 1
test: export OMP_NUM_THREADS = 1
test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/python docs/make_cli_help.py --check
	$(BIN)/python docs/make_accuracy.py --check

check: test lint types layers docs

prove: $(READY)
	$(BIN)/python -m benchmarks.prove

# One part of the proofs, as in `make prove.scaling`.
prove.%: $(READY)
	PARTS=$* $(BIN)/python -m benchmarks.prove

bench: $(READY)
	$(BIN)/python -m benchmarks.bench

lock:
	uv pip compile --quiet --generate-hashes --universal --python-version 3.11 pyproject.toml --extra dev -o requirements.lock

clean:
	rm -rf $(VENV) $(OUT) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
