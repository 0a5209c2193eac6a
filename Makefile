# Everything runs in .venv of this folder and needs no server, account or model hub.
.PHONY: demo test prove check ui servers servers-down bench clean install
.DELETE_ON_ERROR:

export GX_ANALYTICS_ENABLED = false
export DO_NOT_TRACK = 1
export DVC_NO_ANALYTICS = 1
export UV_COMPILE_BYTECODE = 1
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif

BIN = .venv/bin
PYTHON ?= python3
INSTALLED = .venv/.installed
DEVELOPED = .venv/.developed
SERVED = .venv/.served
PINS = -c constraints.txt -c constraints-serve.txt

demo: $(INSTALLED)
	@$(BIN)/bertline run news

# two processes, since most of the time is spent starting programs; more threads only wait for each other
test: $(DEVELOPED)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

prove: $(DEVELOPED)
	@$(BIN)/python -m pytest -m prove --timeout=5400

check: $(DEVELOPED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_layers.py

ui: $(INSTALLED)
	@$(BIN)/bertline ui

# PostgreSQL, MLflow and Prefect in the background; ARGS="--mlflow-port 5001" for another port
servers: $(SERVED)
	@$(BIN)/python -m infra.servers up $(ARGS)

servers-down: $(INSTALLED)
	@$(BIN)/python -m infra.servers down $(ARGS)

bench: $(INSTALLED)
	@$(BIN)/python bench/finetune.py
	@$(BIN)/python bench/line.py
	@$(BIN)/python bench/gate.py

install: $(INSTALLED)

# uv takes seconds, pip minutes; pip is used if uv cannot be installed
$(INSTALLED): pyproject.toml constraints.txt constraints-serve.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: bertline needs Python 3.11 or newer; call make PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the pinned versions into .venv"
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv 2>/dev/null \
	  && $(BIN)/uv pip install -q --python $(BIN)/python $(PINS) -e '.[line]' \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check $(PINS) -e '.[line]'
	@touch $@

$(DEVELOPED): $(INSTALLED) constraints-dev.txt
	@test -x $(BIN)/uv \
	  && $(BIN)/uv pip install -q --python $(BIN)/python $(PINS) -c constraints-dev.txt -e '.[dev]' \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check $(PINS) -c constraints-dev.txt -e '.[dev]'
	@touch $@

$(SERVED): $(INSTALLED)
	@test -x $(BIN)/uv \
	  && $(BIN)/uv pip install -q --python $(BIN)/python $(PINS) -e '.[servers]' \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check $(PINS) -e '.[servers]'
	@touch $@

# Removes the environment, outputs of the stages and the embedded MLflow. Your rows, dvc.lock, the data of
# `make servers`, secrets of containers and .dvc/cache stay; `dvc gc -w` cleans the cache.
clean:
	test ! -d .bertline || find .bertline -mindepth 1 -maxdepth 1 ! -name 'servers*' ! -name secrets -exec rm -rf {} +
	rm -rf .venv mlflow.db mlartifacts dvc_plots .dvc/tmp *.egg-info
	find data -mindepth 2 -maxdepth 2 $(foreach own,raw labels feedback behaviour,! -path 'data/$(own)/*') \
	  \( -name report $(foreach step,ingest validate tokenize finetune evaluate export benchmark publish gate,-o -name $(step)) \) \
	  -exec rm -rf {} +
