# The one door. `make demo` and `make test` each do all set-up themselves.
PYTHON ?= python3.11
BIN := .venv/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

RUST := Cargo.toml Cargo.lock $(shell find rust -name '*.rs')
SETUP := .venv/.core

.PHONY: help demo test lint fmt bench soak wheel clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

.venv/.dependencies: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $$($(PYTHON) .ci/requirements.py train dev bench)
	touch $@

.venv/.core: .venv/.dependencies $(RUST)
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --release --quiet --skip-install
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
