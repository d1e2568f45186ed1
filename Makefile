# The front door. `make help` lists what there is; every target sets up what it needs.

MAKEFLAGS += --no-print-directory
VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
# The lock names every package, with its extras: pip resolves nothing, whatever is released later.
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
MANAGE := $(PYTHON) manage.py
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-emit-index-url --custom-compile-command "make lock" --quiet

.DEFAULT_GOAL := help
.PHONY: help setup run test test-sqlite test-postgres lint types bench lock messages browser deploy-check drill
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/run.stamp .env ## Make .venv from the locked requirements, and .env with fresh keys

# What makes the demo convenient and unsafe goes to its process only, never to .env. A variable
# of the caller's wins; an .env that configures a registry is no demo's, and `run` refuses it.
run: export BACKEND_NETWORKS ?= 127.0.0.1/32,::1/128
run: export ALLOWED_HOSTS ?= localhost,127.0.0.1,[::1]
run: export HTTPS ?= off

run: setup ## Serve a demo registry on http://127.0.0.1:17217 (PORT and DATABASE_URL override)
	@if grep -qsE '^(DATABASE_URL|ALLOWED_HOSTS|BACKEND_NETWORKS)=.' .env; then \
		echo "This .env configures a registry of its own, which gets no demo data: use" >&2; \
		echo "$(PYTHON) manage.py serve (docs/operations.md)." >&2; exit 1; \
	fi
	@echo "A demo, not for production: it trusts every program on this machine as the backend,"
	@echo "and speaks plain HTTP. docs/ says how to run it for real. Stop it with Ctrl-C."
	@umask 077 && $(MANAGE) migrate --verbosity 0
	@$(MANAGE) seed_demo --if-empty --staff-user admin
	@exec $(MANAGE) serve

# Each suite leaves one core idle most of the time: both run at once, and are shown when they end.
# What no database has a part in (`once`, and the trial runs of benchmarks) runs in one of them.
SUITES := $(MAKE) --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
PYTEST := $(PYTHON) -m pytest --cov --cov-report= --cov-fail-under=0

test: $(VENV)/dev.stamp browser ## Run every test on SQLite and on PostgreSQL, browser tests included
	@echo "Testing on SQLite and on PostgreSQL at once …"
	@$(SUITES) test-sqlite test-postgres
	@$(BIN)/coverage combine --quiet .coverage.sqlite .coverage.postgres
	@$(BIN)/coverage report

test-sqlite:
	@COVERAGE_FILE=.coverage.sqlite DATABASE_URL=sqlite://:memory: $(PYTEST) -m "not once"

test-postgres:
	@COVERAGE_FILE=.coverage.postgres $(PYTHON) -m tests.support.postgres $(PYTEST)

browser: $(VENV)/dev.stamp # a browser and a TLS front for the tests, installed where there are none
	@$(PYTHON) -m tests.support.browser
	@$(PYTHON) -m tests.support.nginx

lint: $(VENV)/dev.stamp ## Check style, missing migrations, the deployment checklist
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@DJANGO_SETTINGS_MODULE=tests.settings $(MANAGE) makemigrations --check --dry-run
	@DJANGO_SETTINGS_MODULE=tests.settings HTTPS=on ALLOWED_HOSTS=registry.example \
		SECRET_KEY="$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(50))')" \
		$(MANAGE) check --deploy --fail-level WARNING

deploy-check: $(VENV)/dev.stamp ## Check deploy/ with the tools that read it; STRICT=1 fails where one is missing
	@$(PYTHON) deploy/check.py $(if $(STRICT),--strict)

drill: $(VENV)/dev.stamp ## Kill, freeze and cut off real databases, and count wrong answers; ONLY=name for one
	@$(PYTHON) -m drills $(ONLY)

types: $(VENV)/dev.stamp ## Check types (mypy, strict)
	@$(BIN)/mypy .

bench: $(VENV)/bench.stamp ## Measure beside others, under storms, and growth; WRITE=1 renews docs/performance.md
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PYTHON) -m benchmarks.compare $(if $(WRITE),--write)
	@$(PYTHON) -m benchmarks.rtio_storm $(if $(WRITE),--write)
	@$(PYTHON) -m benchmarks.growth $(if $(WRITE),--write)
	@$(PYTHON) -m benchmarks.storm
	@$(PYTHON) -m benchmarks.timing

messages: $(VENV)/run.stamp ## Renew the translations' files from what is marked (needs GNU gettext)
	@$(MANAGE) makemessages --all --no-obsolete --no-wrap --add-location file \
		--ignore benchmarks --ignore tests --ignore var
	@$(MANAGE) compilemessages --ignore $(VENV)

lock: $(VENV)/dev.stamp ## Lock the requirements anew, with hashes; UPGRADE=1 takes newer versions
	@$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --output-file requirements.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --group dev --output-file requirements-dev.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) --group bench --output-file requirements-bench.txt

# A version manager may put names on PATH that lead to no Python: each is tried before it is used.
$(PYTHON):
	@for python in python3.13 python3.12 python3.11 python3 python; do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		found=$$python; \
		$$python -c 'import ensurepip, venv' 2>/dev/null || continue; \
		$$python -m venv --clear $(VENV) && exit 0; \
	done; \
	if [ "$$found" ]; then \
		echo "$$found cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; \
	else \
		echo "Python 3.11 or newer is needed, and there is none on PATH." >&2; \
	fi; \
	exit 1

$(VENV)/run.stamp: requirements.txt | $(PYTHON)
	@echo "Installing what runs the registry into $(VENV) …"
	@$(PIP) --requirement $<
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	@echo "Installing what tests the registry into $(VENV) …"
	@$(PIP) --requirement $<
	@touch $@

$(VENV)/bench.stamp: requirements-bench.txt $(VENV)/dev.stamp
	@echo "Installing what measures the registry into $(VENV) …"
	@$(PIP) --requirement $<
	@touch $@

define NEW_KEYS
import base64, secrets, time
pepper = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
print("# Made by `make setup`. Back PEPPERS up, apart from the database; .env.example explains.")
print(f"SECRET_KEY={secrets.token_urlsafe(50)}")
print(f"PEPPERS={time.strftime('%Y%m')}:{pepper}")
endef
export NEW_KEYS

.env: | $(PYTHON)
	@umask 077 && $(PYTHON) -c "$$NEW_KEYS" > $@.new && mv $@.new $@
	@echo "Wrote .env with new keys (readable by you only)."
