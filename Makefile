PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint format stubs benchmark clean

demo: $(VENV)/.installed
	$(BIN)/keras-vit demo

test: lint
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

test-all: lint
	$(BIN)/python -m pytest -q

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

stubs: $(VENV)/.installed
	$(BIN)/python -m tests.stubs

benchmark: $(VENV)/.installed
	$(BIN)/python -m tests.benchmarks

# The environment is made anew when the declared dependencies change, so a stale one never hides a missing line.
$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("keras_vit needs Python 3.10 or newer; %s is %s. Name another: make PYTHON=python3.12" % (sys.executable, sys.version.split()[0]) if sys.version_info < (3, 10) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[all]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info runs
