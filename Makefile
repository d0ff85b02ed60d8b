# `make demo`: install, run the quickstart sweep, print its front.   `make test`: install what is missing, run the tests.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow test-browser test-remote test-cluster lint install wheel docs

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

demo: install
	$(BIN)/fatefront run quickstart --out runs/quickstart

# files in their order: xdist would begin those of few tests last, and these are the sweeps
test: install
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

test-slow: install
	$(BIN)/python -m pytest -q -m slow

# pages in a headless Chromium (the machine's own; FATEFRONT_CHROMIUM names another)
test-browser: install
	$(BIN)/pip install -q -c constraints.txt -e ".[browser]"
	$(BIN)/python -m pytest -q -m slow tests/browser

# sweeps on servers that speak S3, outages of MLflow, PostgreSQL (apt-get install postgresql); half an hour
test-remote: install
	$(BIN)/python -m pytest -q tests/remote

# root; apt-get install openssh-server rsync iproute2; half an hour on two cores
test-cluster: install
	$(BIN)/python -m pytest -q -m slow tests/cluster

lint: install
	$(BIN)/ruff check .
	$(BIN)/mypy

# the documentation site: build/site/index.html; warnings are errors
docs: install
	$(BIN)/pip install -q -c constraints.txt -e ".[docs]"
	$(BIN)/python documentation/build_site.py

# what cluster.yaml copies to the nodes: dist/ with one wheel and the exact versions
wheel: install
	@rm -rf dist build/lib
	@$(BIN)/pip wheel -q --no-deps -w dist .
	@cp constraints.txt dist
	@ls dist
