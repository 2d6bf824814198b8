# Everything a developer runs. `make help` lists it; PYTHON=python3.12 picks another interpreter.

BIN := .venv/bin

.PHONY: help install demo serve test test-main test-oldest test-pythons check format bench torture lock clean dev
.NOTPARALLEL:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

install: ## make .venv with what Afterwards needs to run, and Afterwards itself
	@tools/environment .venv runtime

dev: install
	@tools/environment .venv dev

demo: install ## kill a server with tasks in the middle of their work, start it again, see them finish
	@$(BIN)/python -m examples.demo

serve: install ## serve the example program on 127.0.0.1
	@$(BIN)/afterwards run examples.server:app

PYTHONS := test-python-11 test-python-12 test-python-13 test-python-14

test: dev ## run every test, on each Python and each FastAPI that counts
	@$(BIN)/python tools/beside.py test-oldest $(PYTHONS) test-processes test-here

test-main: dev ## run every test on one Python with the newest FastAPI; ARGS="-k name" passes on
	@$(BIN)/python -m pytest $(ARGS)

test-processes: dev
	@$(BIN)/python -m pytest -m "(claims or cli or clients or crash) and not torture" $(ARGS)

test-here: dev
	@$(BIN)/python -m pytest -m "not (claims or cli or clients or crash or torture)" $(ARGS)

test-oldest: ## run the tests that meet FastAPI with the oldest versions allowed
	@tools/environment .venv-oldest oldest
	@.venv-oldest/bin/python -m pytest -m "fastapi and not torture" $(ARGS)

test-pythons: dev ## run all but the slowest tests on every other Python 3.11 to 3.14 found here
	@$(BIN)/python tools/beside.py $(PYTHONS)

test-python-%: dev
	@tools/test-python $* $(ARGS)

check: dev ## check format, lint, types and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python tools/check_tree.py src/afterwards

format: dev ## put every file into the common format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: ## measure Afterwards beside its peers, as far as their servers are present
	@tools/environment .venv-bench bench
	@.venv-bench/bin/python -m pip install -qqq --no-deps --only-binary :all: --require-hashes \
	    -r requirements/bench-honker.txt 2>/dev/null || \
	    echo "honker: not installed, not measured (on Linux it needs glibc 2.38 or newer)"
	@.venv-bench/bin/python -m benchmarks $(ARGS)

torture: dev ## kill a busy server at random moments, many times over
	@$(BIN)/python -m pytest -m torture $(ARGS)

lock: ## write requirements/*.txt anew with the newest versions allowed
	@tools/lock

clean: ## remove the environments and whatever the runs left
	@rm -rf .venv .venv-* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	@find benchmarks examples src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
