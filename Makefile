PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROFILES := tests/edge/devices/real/test_profiles.py

.PHONY: demo test test-all test-devices coverage lint types format docs links stubs benchmark clean

demo: $(VENV)/.installed
	$(BIN)/keras-vit demo

test: lint types
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow and not device"

# The lines that `make test` runs.
coverage: $(VENV)/.installed
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow and not device" --cov --cov-report=term

test-all: lint types
	$(BIN)/python -m pytest -q -m "not device"

# Real programs: an SSH server on a loopback port, adb, the GPU accelerator on a software driver, compilers for NPUs.
test-devices: $(VENV)/.installed
	tests/edge/devices/real/install.sh
	$(BIN)/python -m pip install --quiet -e ".[qualcomm,intel]"
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m device tests/edge/devices/real --ignore $(PROFILES)
	$(BIN)/python -m pytest -q -m device $(PROFILES)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.as_installed lint-imports --no-logo

types: $(VENV)/.installed
	$(BIN)/python -m tests.as_installed mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in build/docs/html. A warning fails it, such as a link to a page that is not there.
docs: $(VENV)/.installed
	$(BIN)/sphinx-build -q -E -W --keep-going -d build/docs/doctrees docs build/docs/html
	@echo "build/docs/html/index.html"

# The addresses outside, which needs a network.
links: $(VENV)/.installed
	$(BIN)/sphinx-build -q -E -b linkcheck -d build/docs/doctrees docs build/docs/links

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
