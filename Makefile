# Every target sets up what it needs: the virtual environment is made once, and again when the requirements change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
CODE := src tests recipes benchmarks integrations
ARGS ?=
PARALLEL := --numprocesses auto --dist loadfile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint docs slow ecosystem ecosystem-tests ray ray-tests emblem peers

help:
	@echo 'make demo       erase a concept from Emblem, the embedded model, and show it: demo/grid.png'
	@echo 'make test       lint, format, types, and the tests (about ten minutes on two cores)'
	@echo 'make lint       the first three of these'
	@echo 'make docs       write the API reference and the tables of pipelines and of the benchmark anew'
	@echo 'make slow       the tests that take minutes each'
	@echo 'make ecosystem  the tests beside SAELens, sparsify and eval-unlearn, in an environment of their own'
	@echo 'make ray        the tests on a Ray cluster of this machine, in an environment of their own'
	@echo 'make peers      environments of the libraries that benchmarks/sae_training.py compares with'
	@echo 'make emblem     make Emblem again from nothing (hours; needs npm)'
	@echo
	@echo 'Options: make demo ARGS="--concept bomb --out runs/bomb", make test ARGS="-k eraser", PYTHON=python3.12'

demo: $(READY)
	$(BIN)/snce demo $(ARGS)

test: lint
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

lint: $(READY)-dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/pyright --pythonpath $(BIN)/python src

docs: $(READY)-dev
	$(BIN)/python -m benchmarks.document_pipelines
	$(BIN)/python -m benchmarks.document_benchmark
	$(BIN)/python -m benchmarks.document_api

slow: $(READY)-dev
	$(BIN)/python -m pytest -m slow $(ARGS)

# these libraries bring fifty packages along: not into the environment that everything else is tested in
ecosystem:
	@$(MAKE) --no-print-directory VENV=.venv-ecosystem ecosystem-tests

ecosystem-tests: $(READY)-ecosystem,tests
	$(BIN)/python -m pytest -m ecosystem tests/ecosystem $(ARGS)

# Ray takes 70 MB to fetch, and its workers load PyTorch time and again: minutes
ray:
	@$(MAKE) --no-print-directory VENV=.venv-ray ray-tests

ray-tests: $(READY)-ray,bench,tests
	$(BIN)/python -m pytest -m ray tests/engines $(ARGS)

# the libraries that benchmarks/sae_training.py trains beside; each list is complete, so that none pulls in torchvision
PEERS := sae_lens dictionary_learning sparsify overcomplete
peers: $(PEERS:%=.venv-peers/%/.ready)

.venv-peers/%/.ready: benchmarks/peers/%.txt
	$(PYTHON) -m venv .venv-peers/$*
	.venv-peers/$*/bin/python -m pip install --disable-pip-version-check --no-deps --requirement $<
	@touch $@

emblem: $(READY)-recipes
	$(BIN)/python -m recipes.emblem

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'snce needs Python 3.11 or newer, and "$(PYTHON)" is' "$$($(PYTHON) --version 2>&1 || true)"; \
	    echo 'Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12'; exit 1; }
	@echo 'Setting up $(VENV); the first time, this downloads PyTorch.'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --editable .
	@touch $@

$(READY)-%: $(READY)
	$(PIP_INSTALL) --editable '.[$*]'
	@touch $@
