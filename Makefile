# The two commands of the README are `make demo` and `make test`; each sets itself up.
# A machine needs python3 (3.11 or later, with venv) and make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# aws-sam-cli pins another boto3 than the local cloud does, so it lives apart.
SAM_VENV := .sam-venv
export PYTHONPATH := $(CURDIR)/layers/session_auditor:$(CURDIR)/cli:$(CURDIR)/examples/consumers/tickets:$(CURDIR)/examples/consumers/user-mail:$(CURDIR)
# Tests start hundreds of Pythons. Where this is set, as in many containers, each compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# A proxy may have a certificate authority of its own, so what the system trusts counts, where it trusts anybody:
# left alone, uv and older pips know only the authorities that they bring along.
CERTIFICATES := $(shell $(PYTHON) -c 'import glob, ssl; paths = ssl.get_default_verify_paths(); print(paths.cafile or (glob.glob(f"{paths.capath}/*") and paths.capath) or "")')
export REQUESTS_CA_BUNDLE ?= $(CERTIFICATES)
export UV_SYSTEM_CERTS ?= $(if $(CERTIFICATES),true,false)
# uv, pinned and hashed by uv.lock itself.
UV_REQUIREMENT = import tomllib; uv = next(p for p in tomllib.load(open("uv.lock", "rb"))["package"] if p["name"] == "uv"); \
	print("uv==" + uv["version"], *("--hash=" + wheel["hash"] for wheel in uv["wheels"]))

# What uv says while it downloads, without the lists of what is done.
PROGRESS = 2>&1 | grep --line-buffered -v '^ [-+~D]'

.PHONY: help
help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(VENV)/.done: pyproject.toml uv.lock
	@echo "Setting up $(VENV), this once, with what uv.lock pins and hashes"
	@test -x $(VENV)/bin/uv || { \
		echo "Making the virtual environment ..."; \
		$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) has no venv: install it (on Debian: apt-get install python3-venv)"; exit 1; }; \
		echo "Downloading uv ..."; \
		$(PYTHON) -c '$(UV_REQUIREMENT)' > $(VENV)/uv.txt; \
		$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $(VENV)/uv.txt; }
	@$(VENV)/bin/uv sync --locked --no-install-project --python $(VENV)/bin/python $(PROGRESS)
	@touch $@

$(SAM_VENV)/.done: $(VENV)/.done
	@echo "Setting up $(SAM_VENV), this once: the SAM CLI"
	@UV_PROJECT_ENVIRONMENT=$(SAM_VENV) $(VENV)/bin/uv sync --locked --only-group sam --python $(VENV)/bin/python $(PROGRESS)
	@touch $@

layers/session_auditor/requirements.txt: uv.lock pyproject.toml $(VENV)/.done  ## What the layer installs, from uv.lock
	@$(VENV)/bin/uv export --quiet --locked --only-group layer --no-emit-project --no-annotate --no-header -o $@

examples/consumers/tickets/requirements.txt: uv.lock pyproject.toml $(VENV)/.done  ## What the ticket consumers install
	@$(VENV)/bin/uv export --quiet --locked --only-group tickets --no-emit-project --no-annotate --no-header -o $@

examples/consumers/user-mail/requirements.txt: layers/session_auditor/requirements.txt  ## What the mails to users install
	@cp $< $@

SAM := SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(SAM_VENV)/bin/sam

.PHONY: demo
demo: $(VENV)/.done  ## Play a working day against the local cloud (BOARD=1: the board in a browser; HUB=1: three accounts)
	@# Python takes seconds to load the cloud.
	@echo "Starting the local cloud on 127.0.0.1 ..."
	@$(VENV)/bin/python -m $(if $(HUB),sandbox.hub,sandbox.demo $(if $(BOARD),board))

.PHONY: test
test: lint $(SAM_VENV)/.done  ## Everything: lint, types, unit, simulation, template, local cloud
	@echo "the unit tests, and how much of the layer they cover"
	@$(VENV)/bin/pytest -q -n 2 --dist worksteal --cov --cov-report=term tests/unit
	@echo "templates, consumers, the local cloud"
	@# A file stays with one worker: what it starts in the local cloud is started once. Some only wait for it, so
	@# there are more workers than cores, and those files begin (tests/conftest.py), not those of most tests.
	@$(VENV)/bin/pytest -q -n 6 --dist loadfile --no-loadscope-reorder --ignore=tests/unit --ignore=tests/simulation
	@echo "the simulation"
	@$(VENV)/bin/pytest -q -n 2 --dist worksteal tests/simulation

.PHONY: unit
unit: $(VENV)/.done  ## The unit tests alone (a minute)
	@$(VENV)/bin/pytest -q -n 2 tests/unit

.PHONY: simulate
simulate: $(VENV)/.done  ## Worlds at random for SECONDS=60, or the one of SEED=...
	@$(VENV)/bin/python -m tests.simulation --seconds $(or $(SECONDS),60) $(addprefix --seed ,$(SEED))

.PHONY: bench
bench: $(VENV)/.done  ## Measure the auditor against its goals (sixteen minutes; QUICK=1: four, ALL=1: twenty; OF=targets or OF=delays: a hub)
	@$(VENV)/bin/python -m benchmarks$(addprefix .,$(OF)) $(if $(QUICK),--quick) $(if $(ALL),--all) $(addprefix --local ,$(LOCAL))

.PHONY: lint
lint: $(VENV)/.done  ## Style, format, types, who may import whom, and every template
	@# Types and templates take long, and there are two cores.
	@$(MAKE) --no-print-directory -j 2 style types templates

.PHONY: style types templates
style:
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports --no-logo --no-cache pyproject.toml

types:
	@$(VENV)/bin/mypy

templates:
	@$(VENV)/bin/zizmor --offline --quiet .github
	@$(VENV)/bin/cfn-lint template.yaml functions/*/template.yaml spoke.yaml examples/consumers/*/template.yaml examples/consumers/central-bus/bus.yaml docs/schemas/*.yaml

.PHONY: build
build: $(SAM_VENV)/.done layers/session_auditor/requirements.txt examples/consumers/tickets/requirements.txt examples/consumers/user-mail/requirements.txt  ## What `sam build` would deploy, in .aws-sam
	@$(SAM) build

.PHONY: schemas
schemas: $(VENV)/.done  ## Write the JSON Schemas of events and policies into docs/schemas
	@$(VENV)/bin/python -m sandbox.schemas

.PHONY: picture
picture: $(VENV)/.done  ## Draw the README's pictures from messages that Slack and Teams took
	@$(VENV)/bin/python -m sandbox.picture

.PHONY: command
command: $(VENV)/.done  ## Write the help of appstream-auditor and the schemas of its answers into docs
	@$(VENV)/bin/python -m sandbox.command
