# `make train` and `make test` work on a fresh machine; both install into .venv first, once.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEBUG_LIB = build/debug/lib
SOURCES = pyproject.toml setup.py constraints.txt $(wildcard src/minigo/*.pyx src/minigo/*.px[di])

.PHONY: train lessons test test-debug lint format clean

train: $(VENV)/installed
	$(BIN)/minigo train selfplay/9x9.toml --set minutes=9

# The quick report on the three lessons: lessons/lessons.html, in ten minutes on two cores.
lessons: $(VENV)/installed
	$(BIN)/minigo lessons --quick

test: $(VENV)/installed
	$(BIN)/python -m pytest -n auto

# The compiled rules and trees again, with bounds checks and assertions (MINIGO_DEBUG in setup.py).
test-debug: $(VENV)/installed
	MINIGO_DEBUG=1 $(BIN)/python setup.py --quiet build --build-base build/debug --build-lib $(DEBUG_LIB)
	PYTHONPATH=$(DEBUG_LIB) $(BIN)/python -m pytest -n auto tests/test_board.py tests/test_tree.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt setuptools cython
	$(BIN)/pip install --quiet -c constraints.txt --no-build-isolation --editable '.[train,dev,plots]'
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info src/minigo/*.so
