# Two commands: `make demo` and `make test`. Both set up .venv by themselves; a second run takes no set-up time.
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: help demo test lint format bench clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY) ## the whole road in miniature: archive, datasets, catalog, models, report, publication
	@$(BIN)/pwcat demo

test: $(READY) ## every test, on up to four cores
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

lint: $(READY) ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# LitData's own requirements (torchvision, an old dateutil) would move what is pinned; it runs without them.
bench: $(READY) ## seconds, memory and ratios to peers: the road, places, labels, scenes, pixels, cubes, builds, loaders, training
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,bench]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps litdata boto3 botocore jmespath s3transfer
	@for name in road plan label search materialize cube loader probes gpu build items osm query similar diversity explorer serve publish fetch; do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean: ## remove what was set up and built
	rm -rf $(VENV) build dist pwcat-demo

# The install is quiet; what pip said is in .venv/setup.log, and shown where it fails.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "pwcat needs Python 3.11 or newer on the PATH"; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (once, about two minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[all]' > $(VENV)/setup.log 2>&1 || { tail -n 30 $(VENV)/setup.log; exit 1; }
	@touch $(READY)
