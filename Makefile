# make demo | quick | test | lint | grid | cases | chaos | bench | docs | lock | clean. The first of them builds .venv, a CPU environment with pinned packages.
#
# Where pip's default index serves torch with CUDA (plain Linux), set PIP_EXTRA_INDEX_URL to PyTorch's CPU index
# to spare yourself a few gigabytes; everything works either way.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
DATA ?= $(or $(FOUNDRANK_DATA),../shared/data)
CASES ?= ../shared/cases
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

.PHONY: help venv demo quick test lint grid cases chaos chaos-jobs chaos-fuzz chaos-nights bench docs lock clean

help:
	@echo "make demo   simulate, embed, pretrain, fine-tune, evaluate and score a small world with 2 processes"
	@echo "make quick  lint, then the tests of data/ and model/ and of the tree's shape: the inner loop, a minute and a half"
	@echo "make test   lint, then every test"
	@echo "make lint   formatting, style and types"
	@echo "make grid   every variant of the model under every kind of sharding plan; three minutes"
	@echo "make cases  inputs that went wrong once, where CASES has their scripts; ten minutes"
	@echo "make chaos  chaos-jobs (jobs disturbed at random, 200 times), chaos-fuzz (2,000 changed inputs), chaos-nights (200 nights of scoring); an hour"
	@echo "make bench  foundrank against popularity and trees, into docs/results/results.md; needs DATA"
	@echo "make docs   the site with the API reference, into build/site; adds requirements-docs.txt to .venv"
	@echo "make lock   the image's packages with their hashes, into requirements-runtime.txt, from requirements-cpu.txt"
	@echo "make clean  remove what tools leave behind; keeps .venv and runs/"

venv: .venv/.installed

demo: venv
	foundrank demo

# The inner loop: what most changes break first, without a process group, a command or a training.
quick: lint
	OMP_NUM_THREADS=1 python -m pytest -q -n 2 -m "not grid and not data" tests/unit/data tests/unit/model tests/unit/test_structure.py tests/unit/test_docs_names.py

# One thread per process: the tests start several, and more threads than cores only wait for each other.
# Two workers: one has what shares a run in tests/jobs (tests/conftest.py), the other begins with the rest. Three are hardly faster on
# two cores, and what has to happen in time happens too late there.
test: lint
	OMP_NUM_THREADS=1 python -m pytest -q -n 2

lint: venv
	ruff check .
	ruff format --check .
	pyright

grid: venv
	OMP_NUM_THREADS=1 python -m pytest -q -m grid

# One after the other: some look at what all processes of the machine do.
cases: venv
	@test -d "$(CASES)" || { echo "skipped: there is no folder $(CASES)"; exit 0; }; \
	    right=0; wrong=0; for case in "$(CASES)"/*.py; do \
	        if said=$$(python "$$case" 2>&1); then right=$$((right + 1)); echo "right  $$(basename "$$case")"; \
	        else wrong=$$((wrong + 1)); echo "WRONG  $$(basename "$$case")"; echo "$$said" | tail -n 20; fi; \
	    done; echo "cases: $$right passed, $$wrong failed"; test $$wrong = 0

# Each part runs alone, and takes less than an hour.
chaos: chaos-jobs chaos-fuzz chaos-nights

chaos-jobs: venv
	OMP_NUM_THREADS=1 python -m tests.chaos.chaos

chaos-fuzz: venv
	OMP_NUM_THREADS=1 python -m tests.fuzz.fuzz --draws 2000

chaos-nights: venv
	OMP_NUM_THREADS=1 python -m tests.chaos.nights

bench: venv
	python -m benchmarks.compare simulated
	python -m benchmarks.compare completejourney --source $(DATA)/completejourney
	python -m benchmarks.compare amazon-search --source $(DATA)/amazon_cellphones_search

docs: venv .venv/.docs
	mkdocs build --strict --quiet --site-dir build/site

lock: venv
	python .ci/lock

clean:
	rm -rf build foundrank.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so an interrupted installation is taken up again.
.venv/.packages: requirements-cpu.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "foundrank needs Python 3.11 or newer; '$(PYTHON)' is $$("$(PYTHON)" --version 2>/dev/null || echo absent)." \
	         "Install one and name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	rm -f .venv/.packages .venv/.installed
	test -x .venv/bin/python || "$(PYTHON)" -m venv --clear .venv
	.venv/bin/python -m pip install -c requirements-cpu.txt torch==$$(sed -n 's/^torch==//p' requirements-cpu.txt)
	.venv/bin/python -m pip install --no-deps -r requirements-cpu.txt
	.venv/bin/python -c 'import fbgemm_gpu, torchrec, torchx, transformers'
	touch $@

# Pyright cannot follow an editable installation of folders under other names: what it is to find as foundrank is linked.
.venv/.installed: .venv/.packages pyproject.toml
	.venv/bin/python -m pip install --no-deps --no-build-isolation -e .
	rm -rf .venv/typing && mkdir -p .venv/typing/foundrank
	ln -s $(addprefix ../../../,data model dist torchx_components $(wildcard dist/api/*.py)) .venv/typing/foundrank/
	touch $@

.venv/.docs: .venv/.installed requirements-docs.txt
	.venv/bin/python -m pip install --no-deps -r requirements-docs.txt
	touch $@
