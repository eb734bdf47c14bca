# make setup | demo | test | test-slow | check | bench | docs | clean
#
# torch's default Linux build carries CUDA (gigabytes). A CPU-only build:
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
PYTEST_ARGS ?=
DEMO ?= demo
DEVICE ?= cpu
BENCH_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) -c constraints.txt
INSTALLED := $(VENV)/.installed
WITH_TESTS := $(VENV)/.installed-test
WITH_CHECKS := $(VENV)/.installed-check
WITH_PEERS := $(VENV)/.installed-bench
# Two test processes on two cores: one thread each, or they fight.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

.PHONY: setup demo test test-slow check bench docs clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing drelu into $(VENV) (the first time this downloads torch)"
	@$(PIP) -e .
	@touch $@

$(WITH_TESTS): $(INSTALLED)
	@$(PIP) -e ".[test]"
	@touch $@

$(WITH_CHECKS): $(INSTALLED)
	@$(PIP) -e ".[test,check]"
	@touch $@

$(WITH_PEERS): $(INSTALLED)
	@$(PIP) -e ".[bench]"
	@touch $@

# Small nets gain nothing from a second thread, and lose much of it on a busy machine.
demo: $(INSTALLED)
	@mkdir -p $(DEMO)
	@OMP_NUM_THREADS=1 $(BIN)/drelu sweep demo --store $(DEMO)/runs > $(DEMO)/sweep.txt
	@$(BIN)/drelu stats --store $(DEMO)/runs --out $(DEMO)/stats.md > $(DEMO)/stats.txt
	@$(BIN)/drelu compare --store $(DEMO)/runs --out $(DEMO)/table.md
	@echo
	@echo "models and results: $(DEMO)/runs"
	@echo "table: $(DEMO)/table.md    statistics: $(DEMO)/stats.md"
	@echo "go on with: $(BIN)/drelu list --store $(DEMO)/runs"

test: $(WITH_TESTS)
	$(PYTEST) -m "not slow"

test-slow: $(WITH_TESTS)
	$(PYTEST) -m slow

check: $(WITH_CHECKS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# make bench DEVICE=cuda BENCH_ARGS="--data-dir DIR --rows pgd". Networks and results stay in
# build/speed: what was measured on this code is not measured again.
bench: $(WITH_PEERS)
	$(BIN)/python benchmarks/start_up.py --write
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed.py --write --device $(DEVICE) $(BENCH_ARGS)

docs:
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet "mkdocs-material>=9.5,<10"
	.venv-docs/bin/mkdocs build --strict

clean:
	rm -rf $(VENV) .venv-docs $(DEMO) build dist site
