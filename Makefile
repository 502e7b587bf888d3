# Everything starts here: `make` lists the targets. Only git, make and python3 are needed.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-survey test lint format bench

help: ## List the targets
	@echo "diapir finds salt in seismic data. Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: ## Make .venv from uv.lock (done by every other target)
	@$(PYTHON) scripts/setup.py

demo: setup ## Find salt in synthetic seismic: train, score, draw (minutes)
	@echo "demo: recipes/quickstart.yaml makes tiles, trains a net on them and scores it; results go to runs/demo"
	@$(BIN)/diapir run recipes/quickstart.yaml --out runs/demo --resume

demo-survey: setup ## Find salt in a whole made survey, SEG-Y to SEG-Y (a quarter of an hour)
	@$(PYTHON) scripts/demo_survey.py runs/demo-survey

test: setup ## Format, lint, types, layers and tests
	@$(BIN)/python scripts/check.py format lint types tests

lint: setup ## Format, lint and types, without the tests
	@$(BIN)/python scripts/check.py format lint types

format: setup ## Rewrite the code in the project's format
	@$(BIN)/ruff check --fix --exit-zero --quiet
	@$(BIN)/ruff format

bench: ## Measure against what a user would pick instead
	@$(PYTHON) scripts/setup.py --group bench
	@$(BIN)/python scripts/check.py benchmarks
