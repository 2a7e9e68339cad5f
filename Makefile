# Every command of the project. Needs make and a Python 3.11 to 3.14 with venv and pip; the rest is set up in .venv.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
INTERPRETER := $(VENV)/.python
# Defaults to the interpreter that .venv was made with if it can still be found, else to python3.
PYTHON ?= $(or $(shell test -e $(INTERPRETER) && name=$$(head -n 1 $(INTERPRETER)) && command -v "$$name" >/dev/null && echo "$$name"),python3)
LOCK := requirements-dev.lock
# The installer trusts the machine's certificates and asks the index that pip is configured for.
UV_ENV = UV_SYSTEM_CERTS=1 UV_NO_PROGRESS=1 $$(index=$$($(BIN)/pip config get global.index-url 2>/dev/null) && echo "UV_DEFAULT_INDEX=$$index")
COMPILE = env $(UV_ENV) $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.DEFAULT_GOAL := help
.PHONY: help run up test test-wheel wheel soak chaos fuzz bench loadtest test-image test-k8s image-requirements k8s-requirements check dashboards rules pictures format lock programs collector logstore clean FORCE

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## start the service on several workers with its own PostgreSQL and Redis
	@# gunicorn reads this one itself, before its configuration file can refuse it
	@case "$$WEB_CONCURRENCY" in *[!0-9]*) $(BIN)/python -m app.settings || exit 1;; esac; \
	exec $(BIN)/gunicorn -c gunicorn_conf.py

up: ## start the service and everything that watches it in containers (ARGS=... go to docker compose up)
	@monitoring/file_modes.sh
	@docker compose up --build --detach --wait $(ARGS)

PROGRAMS := build/programs
test soak loadtest: export PATH := $(CURDIR)/$(PROGRAMS)/usr/bin:$(PATH):$(CURDIR)/$(PROGRAMS)/go/bin
# Four processes with servers of their own: most tests wait for a service. ARGS="-n 0" runs them one after the other,
# ARGS="-p randomly" in random order (the seed is printed; --randomly-seed=... repeats it). COVERAGE=1 measures branch
# coverage, with a floor, and takes a third more CPU time.
PYTEST := -m pytest -n 4 --dist loadfile --no-loadscope-reorder
test: $(READY) programs ## run every test (ARGS=... go to pytest; COVERAGE=1 measures branch coverage)
	@tests/telemetry/collector.sh $(PROGRAMS) >/dev/null || true # the tests that need it give its reason
	@$(BIN)/python -m tests.k8s.rendering >/dev/null 2>&1 & # builds kustomize while other tests run; its tests wait for it
ifdef COVERAGE
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run $(PYTEST) $(ARGS); status=$$?; $(BIN)/coverage combine -q && $(BIN)/coverage report || status=1; exit $$status
else
	@$(BIN)/python $(PYTEST) $(ARGS)
endif

WHEELS := build/wheel
wheel: $(READY) ## build the package of app/monitoring into build/wheel, under its own name
	@rm -f $(WHEELS)/prefork_observability-*.whl
	@$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir $(WHEELS) ./app/monitoring
	@ls $(WHEELS)/prefork_observability-*.whl

test-wheel: $(READY) ## run all of the package's own tests on its wheel, in an environment with nothing of this repository
	@WHEEL_TESTS=all $(BIN)/python -m pytest tests/wheel -o faulthandler_timeout=0 $(ARGS)

soak: $(READY) ## a minute of killed, recycled and replaced workers under traffic: no total falls, none is lost
	@CHAOS_SECONDS=60 $(BIN)/python -m pytest tests/process/test_chaos.py -s $(ARGS)

chaos: $(READY) ## 15 minutes of random faults under traffic; results in build/chaos (ARGS="--seconds 60 --seed 7": see --help)
	@$(BIN)/python -m loadtest.chaos $(ARGS)

fuzz: $(READY) ## 10,000 random requests that the OpenAPI document allows or forbids, checked (ARGS="--seed 7": see --help)
	@$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(READY) programs ## measure against the libraries in the same run; results and charts in build/bench (ARGS="scrape --quick")
	@loadtest/benchmarks/wrk.sh $(PROGRAMS)/wrk
	@PATH="$(CURDIR)/$(PROGRAMS)/usr/bin:$$PATH:$(CURDIR)/$(PROGRAMS)/wrk" $(BIN)/python -m loadtest.benchmarks $(ARGS)

loadtest: $(READY) programs ## prove latency buckets and alerts under load (ARGS="errors --speed 1": see --help)
	@$(BIN)/python -m loadtest $(ARGS)

programs:
	@tests/programs.sh $(PROGRAMS)

collector: ## find or build the OpenTelemetry Collector of tests/telemetry (three minutes, once; OTELCOL=... names one)
	@tests/telemetry/collector.sh $(PROGRAMS)

logstore: ## find or build VictoriaLogs for its test (a minute, once; VICTORIALOGS=... names one)
	@tests/telemetry/logstore.sh $(PROGRAMS) build

# Missing prerequisites are reported before the environment is set up.
test-image: image-requirements $(READY) ## build the image and run it and compose on a real container engine (root, apt, docker.io, debootstrap)
	@tests/deploy/images/build.sh packages
	@DEPLOY_TESTS=1 $(BIN)/python -m pytest tests/deploy/test_image.py $(ARGS)

test-k8s: k8s-requirements $(READY) ## apply overlays/development to the cluster that KUBECONFIG names, and tear it down again
	@$(BIN)/python -m pytest tests/k8s/test_cluster.py $(ARGS)

image-requirements:
	@tests/deploy/images/build.sh require

k8s-requirements:
	@tests/k8s/require.sh

dashboards: $(READY) ## write the Grafana dashboards from their generator
	@$(BIN)/python -m monitoring.grafana.generator

rules: $(READY) ## write rules, their tests, the PrometheusRule and docs/alerts.md from monitoring/slo.yaml
	@$(BIN)/python -m monitoring.rules

check: $(READY) ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

pictures: export PATH := $(CURDIR)/$(PROGRAMS)/usr/bin:$(PATH)
pictures: $(READY) programs ## draw the dashboards into docs/dashboards, under traffic and faults (ARGS="--url ...": see --help)
	@$(BIN)/python -m monitoring.grafana.pictures $(ARGS)

format: $(READY) ## apply the formatter and the safe fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(READY) ## recompile the lock files from pyproject.toml (UPGRADE=1 takes newer releases)
	$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml -o requirements.lock
	$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml -c requirements.lock --group dev -o requirements-dev.lock
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group setup -o requirements-setup.lock

clean: ## remove the environment, the development data and the results
	rm -rf $(VENV) .data build

# Checks PYTHON first. Makes an empty .venv if there is none, if PYTHON is another interpreter than before, or if the set-up
# was interrupted. Otherwise the file keeps its modification time, and nothing else is done.
$(INTERPRETER): FORCE
	@command -v "$(PYTHON)" >/dev/null || { echo "PYTHON=$(PYTHON) was not found: name a Python 3.11 to 3.14 with PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -I tests/interpreter.py $(VENV) "$(PYTHON)"
FORCE:

# The stamp is removed first and written last, so an interrupted set-up starts again.
$(READY): $(INTERPRETER) requirements-setup.lock requirements.lock $(LOCK)
	@rm -f $@
	@echo "setting up $(VENV) from $(LOCK) (once; again only when a lock or the interpreter changes)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes -r requirements-setup.lock
	@env $(UV_ENV) $(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode $(LOCK) requirements-setup.lock \
	  || { echo "the quick installer failed, pip takes over"; \
	       $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LOCK); }
	@touch $@
