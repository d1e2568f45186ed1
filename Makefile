# What is done most often. `make help` lists what there is; every target sets up what it needs.

MAKEFLAGS += --no-print-directory
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
MANAGE := $(PY) manage.py
# The interpreter to make .venv of, such as `make test PYTHON=python3.12`; otherwise one of these.
PYTHON :=
PYTHONS := python3.14 python3.13 python3.12 python3.11 python3 python
# The lock names every package, with its extras: pip resolves nothing, whatever is released later.
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
export PIP_RETRIES ?= 1
export PIP_DEFAULT_TIMEOUT ?= 10
# What a shell exports for other projects: whose modules and settings count, where pip installs.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONINSPECT PYTHONSTARTUP DJANGO_SETTINGS_MODULE
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT PIP_PYTHON PIP_DRY_RUN
export PIP_USER := 0
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-emit-index-url --custom-compile-command "make lock" --quiet

.DEFAULT_GOAL := help
.PHONY: help setup run test test-sqlite test-postgres test-processes lint types bench lock messages \
	browser deploy-check drill FORCE
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/run.stamp ## Make .venv from the locked requirements, and .env with new keys
	@$(PY) -m authsite.keys

# What makes the demo convenient and unsafe goes to its process only, never to .env. A variable
# of the caller's wins; an .env that configures a registry is no demo's, and `run` refuses it.
run: export BACKEND_NETWORKS ?= 127.0.0.1/32,::1/128
run: export ALLOWED_HOSTS ?= localhost,127.0.0.1,[::1]
run: export HTTPS ?= off
run: export STAFF_SECOND_FACTOR ?= optional

run: $(VENV)/run.stamp ## Serve a demo registry on http://127.0.0.1:17217 (PORT and DATABASE_URL override)
	@$(PY) -m authsite.keys --demo
	@echo "A demo, not for production: it trusts every program on this machine as the backend,"
	@echo "and speaks plain HTTP. docs/operations.md says how to run it for real. Stop it with Ctrl-C."
	@umask 077 && $(MANAGE) migrate --verbosity 0
	@exec $(MANAGE) seed_demo --if-empty --furnish --staff-user admin --serve

# Each suite leaves a core idle part of the time: all run at once, and end at about the same time.
# What need not run on both databases is marked with the suite that runs it: `once(on="sqlite")`;
# `processes` has browsers.
# FULL=1 also runs each benchmark once, and measures how much of the code is run: a fifth longer.
export FULL ?=
PYTEST := $(PY) -m pytest $(if $(FULL),-p tests.support.traced --cov --cov-report= --cov-fail-under=0)

test: browser ## Run every test on SQLite and on PostgreSQL, browser tests included (12 to 20 minutes)
	@echo "Testing on SQLite and on PostgreSQL at once, for 12 to 20 minutes on two cores; failures are"
	@echo "shown whole at the end."
	@$(PY) -m tests.support.suites sqlite="$(MAKE) test-sqlite" postgres="$(MAKE) test-postgres" \
		processes="$(MAKE) test-processes"
ifneq ($(FULL),)
	@$(BIN)/coverage combine --quiet .coverage.sqlite .coverage.postgres
	@$(BIN)/coverage report
endif

test-sqlite:
	@COVERAGE_FILE=.coverage.sqlite DATABASE_URL=sqlite://:memory: $(PYTEST) \
		-m "not once or once(on='sqlite')"

test-postgres:
	@COVERAGE_FILE=.coverage.postgres $(PY) -m tests.support.postgres $(PYTEST) \
		-m "not once or once(on='postgres')"

test-processes:
	@$(PY) -m tests.support.postgres $(PY) -m pytest -m "once(on='processes')"

browser: $(VENV)/dev.stamp # a browser and a TLS front for the tests, installed where there are none
	@$(PY) -m tests.support.browser; browser=$$?; $(PY) -m tests.support.nginx && exit $$browser

lint: $(VENV)/dev.stamp ## Check style, the direction of imports, missing migrations, the deployment checklist
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache --no-logo
	@DJANGO_SETTINGS_MODULE=tests.settings $(MANAGE) makemigrations --check --dry-run
	@$(PY) -m tests.support.postgres $(PY) -m tests.support.migration_lint
	@DJANGO_SETTINGS_MODULE=tests.settings HTTPS=on ALLOWED_HOSTS=registry.example \
		SECRET_KEY="$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(50))')" \
		$(MANAGE) check --deploy --fail-level WARNING

deploy-check: $(VENV)/drill.stamp ## Check deploy/ with the tools that read it; STRICT=1 fails where one is missing
	@$(PY) deploy/check.py $(if $(STRICT),--strict)

drill: $(VENV)/drill.stamp ## Kill, freeze and cut off real databases, and count wrong answers; ONLY=name for one
	@$(PY) -m drills $(ONLY)

types: $(VENV)/dev.stamp ## Check types (mypy, strict)
	@$(BIN)/mypy .

bench: $(VENV)/bench.stamp ## Measure beside others, under storms, and growth; WRITE=1 renews docs/performance.md
	@$(PY) -m authsite.keys
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PY) -m benchmarks.compare $(if $(WRITE),--write)
	@$(PY) -m benchmarks.targets $(if $(WRITE),--write)
	@$(PY) -m benchmarks.rtio_storm $(if $(WRITE),--write)
	@$(PY) -m benchmarks.growth $(if $(WRITE),--write)
	@$(PY) -m benchmarks.storm
	@$(PY) -m benchmarks.timing

# Texts can be read without keys.
messages: export DJANGO_SETTINGS_MODULE = tests.settings
messages: $(VENV)/run.stamp ## Renew the translations' files from what is marked (needs GNU gettext)
	@$(MANAGE) makemessages --all --no-obsolete --no-wrap --add-location file \
		--ignore benchmarks --ignore tests --ignore var
	@$(MANAGE) compilemessages --ignore $(VENV)

lock: $(VENV)/dev.stamp ## Lock the requirements again, with hashes; UPGRADE=1 takes newer versions
	@$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --output-file requirements.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --extra ldap --output-file requirements-ldap.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --group dev --output-file requirements-dev.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) --group bench --output-file requirements-bench.txt
	@$(LOCK) $(if $(UPGRADE),--upgrade) --group drill --constraint requirements-dev.txt \
		--output-file requirements-drill.txt

# .venv is made once, and again where it no longer works, where that was broken off before it had
# pip, or where PYTHON asks for another interpreter.
# A version manager may put names on PATH that lead to no Python: each is tried before it is used.
IDENTITY := import sys; print(sys.base_prefix, sys.version); sys.exit(sys.version_info < (3, 11))
$(VENV)/pyvenv.cfg: FORCE
	@if [ -f $@ ] && have=$$($(PY) -c '$(IDENTITY)' 2>/dev/null) && \
		{ [ -f $(VENV)/run.stamp ] || $(PY) -m pip --version >/dev/null 2>&1; }; then \
		[ "$(PYTHON)" ] || exit 0; \
		[ "$$have" = "$$($(PYTHON) -c '$(IDENTITY)' 2>/dev/null)" ] && exit 0; \
	fi; \
	for python in $(or $(PYTHON),$(PYTHONS)); do \
		$$python -c '$(IDENTITY)' >/dev/null 2>&1 || continue; \
		found=$$python; \
		$$python -c 'import ensurepip, venv' 2>/dev/null || continue; \
		echo "Making $(VENV) with $$($$python --version) …"; \
		$$python -m venv --clear $(VENV) && exit 0; \
	done; \
	if [ "$$found" ]; then \
		echo "$$found cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; \
	elif [ "$(PYTHON)" ]; then \
		echo "PYTHON=$(PYTHON) is no Python 3.11 or newer. Asked for its version, it says:" >&2; \
		$(PYTHON) --version >&2; \
	else \
		echo "Python 3.11 or newer is needed, and there is none on PATH." >&2; \
	fi; \
	exit 1

# pip tells of an unreachable index in many lines, and ends with a package that it misses.
define INSTALL
@$(PIP) --requirement $< 2>$(VENV)/pip.log || { \
	if grep -qE 'connection broken|[Mm]ax retries|[Tt]imed out' $(VENV)/pip.log; then \
		echo "The Python package index cannot be reached. A first start downloads packages from it," >&2; \
		echo "or from where PIP_INDEX_URL says. Check the network (behind a proxy: HTTPS_PROXY)" >&2; \
		echo "and run make again. $(VENV)/pip.log has what pip said." >&2; \
	else \
		cat $(VENV)/pip.log >&2; \
	fi; \
	exit 1; \
}
@touch $@
endef

$(VENV)/run.stamp: requirements.txt $(VENV)/pyvenv.cfg
	@echo "Installing what runs the registry into $(VENV) …"
	$(INSTALL)

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	@echo "Installing what tests the registry into $(VENV) …"
	$(INSTALL)

# One package of these is built where it is installed. A drill that misses it is left out, and says so.
$(VENV)/drill.stamp: requirements-drill.txt $(VENV)/dev.stamp
	@echo "Installing Patroni and what checks deploy/ into $(VENV) …"
	@if $(PIP) --requirement $< 2>$(VENV)/pip.log; then touch $@; else \
		echo "They cannot be installed: $(VENV)/pip.log says why. Going on without them."; fi

$(VENV)/bench.stamp: requirements-bench.txt $(VENV)/dev.stamp
	@echo "Installing what measures the registry into $(VENV) …"
	$(INSTALL)
