# Two verbs to start with: `make run` and `make test`. The rest is for those who build Dovetail.
#
#   PYTHON=python3.12         another interpreter (3.11 or newer)
#   INDEX=URL                 another wheel index for every package
#   TORCH_INDEX=URL           a wheel index for torch alone (the CPU build, say)
#   ARGS="--iterations 4"     passed on to `dovetail run`

PYTHON ?= python3
INDEX ?=
TORCH_INDEX ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

PIP := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	$(BIN)/python -m pip install --quiet --no-compile $(if $(INDEX),--index-url $(INDEX))

.PHONY: run test lint test-long clean

run: $(READY)
	@$(BIN)/dovetail fetch medmnist --deadline-s 15 || echo "going on without the medical images"
	$(BIN)/dovetail run $(ARGS)

test: $(READY) lint
	$(BIN)/python -m pytest -q -n 2 --dist loadscope

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test-long: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist loadscope -m slow

clean:
	rm -rf $(VENV)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Dovetail needs Python 3.11 or newer; name one with PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned dependencies into $(VENV) (about two minutes, once)"
	@$(if $(TORCH_INDEX),PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) torch)
	@$(PIP) -e '.[dev]'
	@touch $@
