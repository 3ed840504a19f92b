# The commands of this project. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: generators help setup run test check lint chaos systemd fast bench lock clean install uninstall events man messages translations golden

BIN := .venv/bin
PREFIX ?= /opt/mailerd
# What needs no database, and therefore takes seconds.
FAST := $(wildcard tests/core tests/mail tests/house)
# The processes of `make test`. Tests wait more than they compute, so a core takes two of them.
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN || echo 1))))

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## prepare this machine: Python, .venv, packages, database server
	@tools/setup

run:  ## try it: a private database, a simulated Google, a sample job; Ctrl-C stops it
	@[ -e $(BIN)/../ready ] || echo 'make run: the first start prepares this machine, in 1 to 2 minutes; later ones take seconds'
	@tools/setup
	@$(BIN)/mailerd sandbox --demo

test:  ## run the whole test suite (WORKERS=1: in one process; TESTS=tests/store: a part of it)
	@BROWSER=1 tools/setup
	@$(BIN)/pytest -n $(WORKERS) --dist worksteal $(TESTS)

check: lint test  ## everything that must hold: format, lint, types, layers, tests

lint: setup  ## the part of check that runs no test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

generators: setup  ## three generators of clients make theirs of openapi.json, and post; needs npm and a network
	@$(BIN)/python -m tests.generators

chaos: setup  ## storms: kills, freezes, lost responses, failovers, and the model at length, in about an hour; writes docs/internals/proof.md
	@$(BIN)/python -m tests.chaos --model
	@$(BIN)/python -m tests.chaos --proof

systemd:  ## as root: the service under a systemd of its own, step by step, in 4 minutes
	@tests/systemd/run

fast: setup  ## the tests that need no database, in seconds
	@$(BIN)/pytest -q $(FAST) --ignore tests/house/test_trace.py

bench: setup  ## measure speed and size beside a bare client; minutes (BENCH='draft idle --messages 4000')
	@$(BIN)/python -m tests.bench $(BENCH)

lock: setup  ## write requirements*.lock from pyproject.toml (UPGRADE=1: with the newest releases)
	@tools/lock

messages: setup  ## update the catalogue of translated texts from the code
	@$(BIN)/python tools/messages.py update

translations: setup  ## show which Chinese sections are behind the English; RENEW=1: they are in step now (PAGES='…': those)
	@$(BIN)/python tools/translations.py $(if $(RENEW),renew) $(PAGES)

man: setup  ## write build/man from the commands' help, as a wheel gets it; read it with `man -l`
	@$(BIN)/python -m mailerd.cli.manual build/man

events: setup  ## write systemd/*.catalog from the events
	@$(BIN)/python tools/events.py

install:  ## as root: mailerd as a service, in PREFIX=/opt/mailerd; again: bring it up to date
	@PREFIX=$(PREFIX) tools/install install

uninstall:  ## as root: remove the service; configuration, credentials and database stay
	@PREFIX=$(PREFIX) tools/install uninstall

golden: setup  ## write anew what API, console and commands answer, in tests/golden; the diff is what callers notice
	@GOLDEN=write $(BIN)/pytest -q -n $(WORKERS) tests/golden
	@git diff --stat -- tests/golden

clean:  ## remove what the commands above have made, the demonstration's data included
	rm -rf .venv .sandbox .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info mailerd/locale/*/LC_MESSAGES/*.mo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
