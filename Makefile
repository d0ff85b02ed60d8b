# `make demo`: install, run the quickstart sweep, print its front.   `make test`: install what is missing, run the tests.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow test-browser test-remote test-cluster test-hostile test-faults test-kills test-soak fuzz lint install install-locked lock audit wheel docs

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

demo: install
	$(BIN)/fatefront run quickstart --out runs/quickstart
	@command -v fatefront >/dev/null || echo "shell:   source $(BIN)/activate, so that it knows fatefront"

# files in their order: xdist would begin those of few tests last, and these are the sweeps
# (where there is a Chromium, two pictures of the report are drawn and kept; where not, the summary says so)
test: export FATEFRONT_SCREENSHOTS ?= build/screenshots
test: install
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

test-slow: install
	$(BIN)/python -m pytest -q -m slow

# pages in a headless Chromium (the machine's own; FATEFRONT_CHROMIUM names another); their pictures are kept
test-browser: export FATEFRONT_SCREENSHOTS ?= build/screenshots
test-browser: install
	$(BIN)/pip install -q -c constraints.txt -e ".[browser]"
	$(BIN)/python -m pytest -q -m slow tests/browser

# sweeps on servers that speak S3, outages of MLflow, PostgreSQL (apt-get install postgresql); half an hour
test-remote: install
	$(BIN)/python -m pytest -q tests/remote

# root; apt-get install openssh-server rsync iproute2; half an hour on two cores
test-cluster: install
	$(BIN)/python -m pytest -q -m slow tests/cluster

# bad input, malicious files, secrets, trials that misbehave: what docs/reliability.md counts; half an hour
test-hostile: install
	$(BIN)/python -m pytest -q tests/hostile tests/security tests/fuzz tests/sweep/test_failures.py \
		tests/sweep/test_odd_trials.py tests/sweep/test_hang.py

# full disks, damaged, moved, shared and read-only stores under real sweeps (root: mount); half an hour
test-faults: install
	$(BIN)/python -m pytest -q -m slow tests/faults

# any process of a sweep killed at drawn moments, KILLS of them; an hour and a half
KILLS ?= 100
KILL_SEED ?= 0
test-kills: install
	PYTHONPATH=.:tests/sweep:tests/faults $(BIN)/python tests/faults/kill_anything.py --kills $(KILLS) --seed $(KILL_SEED)

# SOAK_TRIALS trials undisturbed in one worker (its memory is printed), then with a tenth of all commits failing and
# workers killed: the results must be equal; hours on two cores
SOAK_TRIALS ?= 2000
test-soak: install
	PYTHONPATH=.:tests/sweep:tests/faults $(BIN)/python tests/faults/soak.py --trials $(SOAK_TRIALS)

# libFuzzer on every parser, FUZZ_SECONDS each; what reaches new code is added to tests/fuzz/corpus
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(wildcard tests/fuzz/corpus/*))
fuzz: install
	@$(BIN)/pip install -q -c constraints.txt -e ".[fuzz]"
	@for target in $(FUZZ_TARGETS); do \
		echo "== $$target"; mkdir -p build/fuzz/$$target; \
		$(BIN)/python tests/fuzz/run_fuzz.py $$target -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=20 \
			-rss_limit_mb=4000 -artifact_prefix=build/fuzz/$$target- -verbosity=0 -print_final_stats=1 \
			build/fuzz/$$target tests/fuzz/corpus/$$target || exit 1; \
	done

# every file that is installed has the hash that it had when the versions were chosen
install-locked:
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --require-hashes -r requirements.lock
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .

lock: install
	@$(BIN)/pip install -q uv; mkdir -p build
	@$(BIN)/uv pip compile pyproject.toml --extra dev -c constraints.txt --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate -q -o build/requirements.lock
	@(echo "# Exact versions with the SHA-256 of every file: what \`make install-locked\` installs. Written by \`make lock\` from pyproject.toml and constraints.txt."; \
		cat build/requirements.lock) > requirements.lock

# known vulnerabilities of what is locked; --strict: a package that the index has no such data of is a failure, too
audit: install
	@$(BIN)/pip install -q pip-audit
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.lock

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
