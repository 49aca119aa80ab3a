# Nothing is needed beforehand but Python 3.11 or newer, and make.
# Every target makes the environment first, and a second run finds it ready.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
COVERAGE := $(BIN)/coverage
MINUTES ?= 5
# As many processes as there are processors; tests that explore the same worlds stay in one of them.
SHARED := -n auto --dist loadgroup
# What must be covered to the last branch; everything else is only measured.
COVERED := model/prompt_studio_model/*,impl/prompt_studio/storage/*

# As root pip warns that root should use a virtual environment, which is what it is in.
export PIP_ROOT_USER_ACTION := ignore
# Compiled tests are kept, whatever the environment says: pytest rewrites hundreds of files, which no run should do anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv stateful test soak races fuzz check format explore mutants wheel clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## Make the environment in .venv, with the versions that constraints.txt pins

# A changed list of dependencies is installed over the old one; a change of the code needs nothing (the install is editable).
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is not. Try: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "making the environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt hatchling editables
	@$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

stateful: $(STAMP) ## Check the model, and the stores against it; ends with the certificate
	$(BIN)/pytest -m stateful $(SHARED)

# The case-by-case tests must reach every branch by themselves: what only a long random run reaches is reached by luck.
# So the stateful layers, all other schedules and what is marked so are not traced.
test: $(STAMP) ## Everything that a change must pass, with branch coverage
	@rm -rf build/coverage && mkdir -p build/coverage
	$(COVERAGE) run -m pytest $(SHARED) -m "not mutants and not soak and not stateful and not interleaved and not untraced"
	$(COVERAGE) combine --quiet
	$(COVERAGE) report --include='$(COVERED)' --fail-under=100
	$(BIN)/pytest $(SHARED) -m "(stateful or interleaved or untraced) and not soak and not mutants"

soak: $(STAMP) ## Long runs, which no other target does: every order of the longest scenarios, leases of workers
	$(BIN)/pytest -m soak

races: $(STAMP) ## Races and crash storms of real processes, as often as they can be held
	$(BIN)/pytest tests/processes/test_races.py tests/web/test_server.py --races full

fuzz: $(STAMP) ## The nightly run: schedules for MINUTES=5, with SEED=n, of SHARD=i/n
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(SHARD),--shard $(SHARD))

check: $(STAMP) ## Format, lint, types, import contracts, the repository itself
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -q tests/repository

format: $(STAMP) ## Format the code, mend what ruff can mend safely, write the generated specs anew
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format
	$(BIN)/python -m tests.repository.traceability
	$(BIN)/python -m tests.repository.outcomes
	$(BIN)/python -m tests.repository.knobs

explore: $(STAMP) ## Every state of the tiny world, judged by every invariant
	$(BIN)/python -m prompt_studio_model explore --world tiny

mutants: $(STAMP) ## Would we have noticed? Each known bug must be caught, by the right invariant
	$(BIN)/python -m tests.mutants

wheel: $(STAMP) ## Build the wheel into build/wheel
	@rm -rf build/wheel
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
	@ls build/wheel

clean: ## Remove everything that make made
	rm -rf $(VENV) build dist .hypothesis .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
