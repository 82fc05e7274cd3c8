# Each target runs the setup it needs; running it again repeats nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# If exported, every process compiles torch's Python code again: tens of seconds per rank and test.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup wheels train test test-slow test-slow-slurm test-slow-rest test-slurm slurm-programs check check-lowest check-newest docs bench clean

# Of the slow tests two at a time, which start some eight processes. Those of a module stay together, and share its
# fixtures. The fast ones run in one process, in one order.
IN_PARALLEL := -q -n 2 --dist loadscope
BENCHMARKS := speedrun overhead any_model generality textbook scaling sharded network streaming dataloader startup stall roofline

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is missing, or older than 3.11; name another: make setup PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $@

train: setup
	$(BIN)/lockstep train --config configs/cnn.yaml

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -m "not slow"

test: setup
	$(BIN)/pytest -q -m "not slow"
	$(MAKE) test-slow

# The SLURM tests share one cluster, so one at a time; they mostly wait, so beside the others: make -j2 test-slow.
test-slow: test-slow-slurm test-slow-rest
test-slow-slurm: setup
	$(BIN)/pytest -q -m "slow and slurm"
test-slow-rest: setup
	$(BIN)/pytest $(IN_PARALLEL) -m "slow and not slurm"

# The fast tests in a temporary environment: with the lowest versions that pyproject.toml states of what the package
# needs, and with the newest of all; on another Python: make check-newest PYTHON=python3.13. Old versions warn of newer
# ones that they are used with, which is nothing to mend.
check-lowest: OPTIONS := --resolution lowest-direct
check-lowest: check-newest
check-newest: setup
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(BIN)/uv venv --quiet --python $(PYTHON) "$$folder" && \
	$(BIN)/uv pip install --quiet --python "$$folder/bin/python" $(OPTIONS) --editable '.[dev,datasets]' && \
	"$$folder/bin/python" -m pytest -q -m "not slow" -p no:cacheprovider -W ignore::DeprecationWarning

# Builds the site into site/; a public name without a docstring, a dead link or an unresolved reference fails.
# Not with --quiet: it hides the warnings that --strict counts, and nothing would fail.
docs: $(VENV)/.docs-ready
	$(BIN)/pytest -q tests/docs/test_api_page.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

$(VENV)/.docs-ready: $(VENV)/.ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[docs]'
	touch $@

# Takes minutes on an otherwise idle machine; rewrites the tables in docs/benchmarks.md.
bench: setup
	for name in $(BENCHMARKS); do $(BIN)/python scripts/bench/$$name.py || exit 1; done

# What a machine with a GPU, torch, torchvision and accelerate but no network still needs for scripts/gpu/settle.py,
# for Python $(WHEELS_PYTHON) on Linux. NumPy and Pillow, which matplotlib needs, are there with torchvision.
WHEELS_PYTHON := 3.12
WHEELS_MACHINE := x86_64
wheels:
	rm -f wheels/*.whl
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --dest wheels --only-binary :all: \
		--python-version $(WHEELS_PYTHON) --implementation cp --constraint constraints.txt \
		$(foreach version,_2_28 _2_27 _2_17 2014,--platform manylinux$(version)_$(WHEELS_MACHINE)) \
		hypothesis matplotlib pytest pytest-timeout rich tqdm tyro wandb
	rm -f wheels/numpy-* wheels/pillow-*

# Starts a real two-node cluster in a temporary folder; installs nothing.
test-slurm: slurm-programs setup
	for script in slurm/*.sbatch; do bash -n $$script || exit 1; done
	shellcheck slurm/*.sbatch
	$(BIN)/pytest -q -m slurm

slurm-programs:
	@for program in slurmctld slurmd sbatch munged shellcheck; do command -v $$program >/dev/null || \
		{ echo "no $$program: as root, apt-get install slurm-wlm munge shellcheck" >&2; exit 1; }; done
	@test "$$(id -u)" = 0 || { echo "the cluster's daemons need root" >&2; exit 1; }

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
