# Two commands matter: `make demo` and `make test`. Each sets up what it needs from Python 3.11 to 3.13 and make alone.

TORCH_VERSION ?= 2.13.0
TORCH_BUILD ?=
TORCH_INDEX ?=
PYTHON ?=
ARGS ?=
LANE ?=
export TORCH_VERSION TORCH_BUILD TORCH_INDEX PYTHON

python := .venv/bin/python
trl := .venv-trl/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format tree lock bench bench-quick bench-gpu bench-report bench-setup bench-setup-vllm experiment sandbox-bench sandbox-soak parity clean

help: ## what there is
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1	\2/p' Makefile | expand -t 22
	@echo
	@echo '  make setup TORCH_BUILD=cuda       the CUDA build of torch (cpu if never said)'
	@echo '  make setup TORCH_INDEX=URL        one more package index to look for torch in'
	@echo '  make setup PYTHON=/path/python3   the Python to build on'
	@echo '  make test ARGS="-k grpo -x"       arguments for pytest'

setup: ## .venv, from the locked versions; quick when nothing changed
	@sh scripts/setup.sh

demo: setup ## a real 135M model learns by SFT and RL in minutes; prints where the report is
	$(python) -m posttrain.cli run rlvr --scale tiny --name demo $(ARGS)

test: setup ## all tests; what needs a missing system package is skipped by name
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(python) -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadscope $(ARGS)

lint: setup ## ruff, its formatter, and mypy in strict mode over the package
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

format: setup ## what ruff can put right by itself
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

tree: setup ## write the tree into the README from the docstrings
	$(python) scripts/tree.py --write

lock: setup ## write requirements.lock from pyproject.toml
	@sh scripts/lock.sh

bench: setup bench-setup ## measure beside the peers, all lanes or LANE=sft-lora; goes on where it stopped (ARGS="--blocks 3" is shorter)
	$(python) -m benchmarks $(foreach lane,$(LANE),--lane $(lane)) $(ARGS)

bench-quick: setup bench-setup ## the SFT and generation lanes once, small: shows that they run, in minutes
	$(python) -m benchmarks --quick $(ARGS)

bench-gpu: setup ## one GPU, beside what it could do and beside transformers (ARGS="--lane sft" for one lane)
	$(python) -m benchmarks.gpu $(ARGS)

bench-report: setup ## benchmarks/RESULTS.md and its figures, from what has been measured
	$(python) -m benchmarks report

bench-setup: setup ## .venv-trl, which the comparisons with TRL need
	@sh scripts/setup_trl.sh

bench-setup-vllm: setup ## .venv-vllm, for the comparison with vLLM on a CPU; lanes go without it where it is missing
	@sh scripts/setup_vllm.sh

experiment: setup ## RL under a verifier, a judge and an environment, beside gold: experiments/RESULTS.md (ARGS="--seeds 1" is shorter)
	$(python) -m experiments $(ARGS)

sandbox-bench: setup ## HumanEval in both sandboxes: problems a second
	$(python) -m benchmarks.sandbox $(ARGS)

sandbox-soak: setup ## 10,000 gradings in a row in each sandbox; fails if a process, descriptor or memory is left
	$(python) -m benchmarks.sandbox --gradings 10000 $(ARGS)

parity: ## losses and gradients beside TRL's on the same tensors (docs/parity.md)
	@test -x $(trl) || { echo 'make parity: TRL is not there; run `make bench-setup` first, which installs it into .venv-trl' >&2; exit 1; }
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(trl) -m parity $(ARGS)

clean: ## what setup and the tools made; runs/ stays
	rm -rf .venv .adapters .venv-trl .venv-vllm .setup-* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find posttrain tests examples benchmarks experiments parity -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
