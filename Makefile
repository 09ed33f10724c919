# Everything starts from nothing but Python 3.11 or newer: each target makes what it needs, once.

PYTHON ?= python3
BIN    := .venv/bin
PIP    := $(BIN)/pip install -qq --disable-pip-version-check --no-input
LOCKED := $(PIP) --no-deps --require-hashes -r

.DEFAULT_GOAL := help
.PHONY: help demo test test-torch test-ctransformers lint format exe exe-torch lock clean
.DELETE_ON_ERROR:

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

demo: .venv/run.stamp  ## start everything on this machine and ask the built-in model for a poem
	@$(BIN)/llorch demo

test: .venv/dev.stamp .venv-clients/stamp  ## run all tests; PYTEST_ADDOPTS="-k queue" narrows them
	@$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile

test-torch: .venv-torch-test/dev.stamp  ## run the tests that need torch, in an environment of their own
	@.venv-torch-test/bin/python -m pytest --numprocesses 2 --dist loadfile tests/torch tests/integration/test_engine_contract.py

test-ctransformers: .venv-ctransformers-test/dev.stamp  ## run the tests that need ctransformers, in the same way
	@.venv-ctransformers-test/bin/python -m pytest --numprocesses 2 --dist loadfile tests/ctransformers \
	    tests/integration/test_engine_contract.py

lint: .venv/dev.stamp  ## check style, types and the direction of imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv/dev.stamp  ## put the code into the one layout there is
	@$(BIN)/ruff check --fix --exit-zero
	@$(BIN)/ruff format

exe: .venv/dev.stamp  ## build dist/llorch, one file that needs no Python, and try it
	@$(BIN)/python build/build.py

exe-torch: .venv-torch/exe.stamp  ## build the folder dist/llorch-torch, with the packages of the torch engine; not part of .ci/run
	@.venv-torch/bin/python build/build.py --flavour torch

# The locks name PyPI's files for every platform. uv writes them; nothing else here needs it.
lock:  ## write requirements/*.txt anew, with the newest versions pyproject.toml allows
	@set -e; uv=$$(mktemp -d); trap 'rm -rf "$$uv"' EXIT; \
	$(PYTHON) -m venv "$$uv"; "$$uv/bin/pip" install -qq --disable-pip-version-check uv; \
	compile="$$uv/bin/uv pip compile --no-config --quiet --upgrade --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --no-header"; \
	$$compile pyproject.toml requirements/build.in -o requirements/run.txt; \
	$$compile pyproject.toml --extra dev -c requirements/run.txt -o requirements/dev.txt; \
	$$compile requirements/ctransformers.in -c requirements/dev.txt -o requirements/ctransformers.txt; \
	$$compile requirements/torch.in -c requirements/dev.txt -o requirements/torch.txt; \
	$$compile requirements/clients.in -o requirements/clients.txt

clean:  ## remove the environment and everything else that is made here
	rm -rf .venv .venv-clients .venv-torch .venv-torch-test .venv-ctransformers-test dist
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find llorch roles build tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "llorch needs Python 3.11 or newer, not %d.%d. \
	Name one: make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	@echo "Making an environment in .venv"
	@$(PYTHON) -m venv .venv

# A stamp is newer than what it was made from. -qq hides warnings about this machine's package sources, not errors.
.venv/run.stamp: requirements/run.txt pyproject.toml | .venv/bin/pip
	@echo "Installing what llorch needs"
	@$(LOCKED) requirements/run.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/run.stamp | .venv/bin/pip
	@echo "Installing what its tests need"
	@$(LOCKED) requirements/dev.txt
	@touch $@

# Programs that tests run, in an environment of their own: they bring a plugin for pytest and much else. Most of it is
# never imported, so nothing is compiled ahead.
.venv-clients/stamp: requirements/clients.txt | .venv/bin/pip
	@echo "Installing the clients that tests run"
	@test -x .venv-clients/bin/pip || $(PYTHON) -m venv .venv-clients
	@.venv-clients/bin/pip install -qq --disable-pip-version-check --no-input --no-compile --no-deps --require-hashes \
	    -r requirements/clients.txt
	@touch $@

# An environment of its own: torch is large, and nothing but its engine may find it. PyInstaller is the one that the other
# executable is made with.
.venv-torch/exe.stamp: requirements/run.txt requirements/dev.txt pyproject.toml
	@echo "Making an environment in .venv-torch, with torch"
	@$(PYTHON) -m venv .venv-torch
	@.venv-torch/$(subst .venv/,,$(LOCKED)) requirements/run.txt
	@.venv-torch/$(subst .venv/,,$(PIP)) $$(grep -oE '^(gguf|pyinstaller[a-z-]*)==[^ ;]*' requirements/dev.txt)
	@.venv-torch/$(subst .venv/,,$(PIP)) --no-build-isolation --editable '.[torch]'
	@touch $@

# These borrow what .venv has. torch's own version is in pyproject.toml; its file is not locked, because which build of it
# pip takes depends on the machine.
.venv-%-test/dev.stamp: requirements/%.txt .venv/dev.stamp
	@echo "Making an environment with $* in .venv-$*-test"
	@$(PYTHON) -m venv --clear .venv-$*-test
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > "$$(.venv-$*-test/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
	@cp "$$(echo $(BIN)/../lib/python*/site-packages)"/*llorch*.pth .venv-$*-test/lib/python*/site-packages/
	@$(subst $(BIN),.venv-$*-test/bin,$(LOCKED)) requirements/$*.txt
	@test $* != torch || $(subst $(BIN),.venv-$*-test/bin,$(PIP)) \
	    "$$(sed -n 's/^torch = .*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)"
	@touch $@
