# The commands of the project. `make demo` and `make test` work in a new clone on a new machine with
# Python 3.10 or later, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The drivers that `make test` must use. If unset, it uses those that could be installed.
DRIVERS :=
# YES=1 agrees to what is installed outside this folder, YES=0 refuses; otherwise each command asks,
# if there is a terminal.
export YES

.PHONY: help demo run picture test bench unit lint types format coverage docs-check clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      show the original problem and its solution on a real server, in a minute"
	@echo "make run       serve the page of the example project, with a temporary server"
	@echo "make picture   take the page's pictures in docs/generated/images with a headless Chromium"
	@echo "make test      run all tests, with both drivers on both servers"
	@echo "make bench     measure the costs, both drivers and servers, in 20 minutes (QUICK=1: in two)"
	@echo "make unit      run the tests that need no server"
	@echo "make coverage  run all tests, and show what they cover"
	@echo "make docs-check  look for dead links and stale numbers in the documents"
	@echo "make lint      ruff;  make types  mypy;  make format  ruff's formatter"
	@echo "make clean     remove the virtual environment, what tests and builds left, and what was installed"
	@echo "YES=1          agrees to what is installed outside this folder: make test YES=1"

# Each stamp is made again when one of the files changes that it depends on.
$(VENV)/.ready-use $(VENV)/.ready-test $(VENV)/.ready-bench $(VENV)/.ready-dev: $(VENV)/.ready-%: pyproject.toml scripts/bootstrap.py
	@$(PYTHON) scripts/bootstrap.py $(VENV) $*
	@touch $@

# While mysqlclient is missing, each command looks whether it can be built by now.
ifneq ($(wildcard $(VENV)/without-mysqlclient),)
RETRY := retry-mysqlclient
.PHONY: $(RETRY)
$(RETRY):
	@$(BIN)/python scripts/bootstrap.py $(VENV) retry
endif

demo: $(VENV)/.ready-use $(RETRY)
	@$(BIN)/python example_project/demo.py

run: $(VENV)/.ready-use $(RETRY)
	@$(BIN)/python example_project/serve.py

picture: $(VENV)/.ready-test $(RETRY)
	@$(BIN)/python -m tests.browser.picture

test: $(VENV)/.ready-test $(RETRY)
	@$(BIN)/python scripts/run_tests.py $(if $(DRIVERS),--drivers $(DRIVERS))

bench: $(VENV)/.ready-bench $(RETRY)
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

unit: $(VENV)/.ready-test $(RETRY)
	@$(BIN)/python -m pytest tests/unit

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.ready-dev
	$(BIN)/mypy

docs-check: $(VENV)/.ready-test
	@$(BIN)/python scripts/docs_check.py
	@$(BIN)/python -m benchmarks.report --check

coverage: $(VENV)/.ready-test $(RETRY)
	@$(BIN)/python scripts/run_tests.py --coverage

clean:
	rm -rf $(VENV) .nox build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@$(PYTHON) -m servers clean
