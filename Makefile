# Eleven words: setup, demo, test, lint, types, docs, coverage, bench; and lock, audit, sbom of what users install.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

TOOLS := build/tools

.PHONY: setup demo test lint types docs coverage bench lock audit sbom

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/inverse-design demo --open

test: setup lint types
	$(BIN)/python -m pytest -q --numprocesses auto --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

coverage: setup
	$(BIN)/python -m pytest -q --numprocesses auto --dist worksteal --cov=surrogates --cov=inverse_design --cov-report=term:skip-covered

docs: setup
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

bench: setup
	$(BIN)/inverse-design benchmark retrieval norman2019_expr --yes
	$(BIN)/inverse-design benchmark forward norman2019_expr --yes
	$(BIN)/inverse-design benchmark calibration norman2019_expr --yes
	$(BIN)/inverse-design benchmark reach norman2019_expr --yes
	for each in search promise public_law unseen_parts unseen leave_one_drug causal kang contexts conformal_worlds inverse_worlds design_shift replicates scalar_transfer conformal_cost triples public_tables; do $(BIN)/python -m benchmarks $$each || exit 1; done

$(TOOLS)/.installed: Makefile
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet pip-audit==2.10.1 cyclonedx-bom==7.5.0
	touch $@

# Twice: with the release of torch that the index prefers, and with the one for GPUs.
lock: setup
	mkdir -p build
	$(BIN)/python .ci/lock.py torch==2.13.0 > build/requirements.lock
	$(BIN)/python .ci/lock.py torch===2.13.0 > build/requirements-gpu.lock
	mv build/requirements.lock build/requirements-gpu.lock .

audit: $(TOOLS)/.installed
	$(TOOLS)/bin/pip-audit --requirement requirements.lock --require-hashes --disable-pip --strict

sbom: $(TOOLS)/.installed
	$(TOOLS)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json requirements.lock
