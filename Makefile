# Each target makes what it needs: a virtual environment in .venv, filled by pip. Needed before: python3 (3.10 or
# newer, with venv and ensurepip), make, git. Another interpreter: make test PYTHON=python3.12 VENV=.venv-3.12

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo test lint bench clean

help:
	@echo "make demo    watch several processes share one cache (about 20 seconds)"
	@echo "make test    run the tests"
	@echo "make lint    run ruff and mypy"
	@echo "make bench   measure against functools.lru_cache, diskcache, cachebox and others"
	@echo "make clean   remove the virtual environment and what the tools leave"

demo: $(VENV)/.have-cli
	@$(BIN)/zoocache demo

# Many tests start interpreters: none of them shall compile all modules anew.
test: $(VENV)/.have-dev
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n auto

lint: $(VENV)/.have-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.have-bench
	$(BIN)/python -m stress bench

# The stamps. pip knows --group since 25.1, and a new venv may have an older one.
$(VENV)/.have-cli: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) does not start, or is older than 3.10: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian, Ubuntu:" \
		"apt install python3-venv), or name another: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade 'pip>=25.1'
	@$(PIP) --editable '.[cli]'
	@touch $@

$(VENV)/.have-dev: $(VENV)/.have-cli
	@$(PIP) --group dev --group fleets
	@touch $@

$(VENV)/.have-bench: $(VENV)/.have-cli
	@$(PIP) --group bench
	@touch $@

clean:
	rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
