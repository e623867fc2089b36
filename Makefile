# All commands of the project. People and continuous integration call the same targets.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INTEROP ?= .venv-interop

.PHONY: demo packages install install-dev check test test-slow test-interop test-edge bench format clean

DEMO = output/demo
RUN = $(BIN)/python main.py -c PP-YOLOE_seg-S.yaml -o Global.output=$(DEMO)
BEST = $(DEMO)/best_model

# The whole way to drawn predictions: generate a data set, train on it from random weights on the CPU, export, predict.
demo: install
	$(BIN)/python -m paddlex_seg.data.demo
	$(RUN) -o Global.mode=check_dataset
	$(RUN) -o Global.mode=train -o Train.pretrain_weight_path=scratch -o Train.image_size=224 \
	    -o Train.batch_size=4 -o Train.epochs_iters=36 -o Train.eval_interval=6 \
	    -o Train.learning_rate=0.002 -o Train.warmup_steps=60 -o Train.augment.mosaic=0
	$(RUN) -o Global.mode=evaluate -o Evaluate.weight_path=$(BEST)/best_model.pdparams
	$(RUN) -o Global.mode=export -o Export.weight_path=$(BEST)/best_model.pdparams -o Global.output=$(DEMO)/exported
	$(RUN) -o Global.mode=predict -o Predict.model_dir=$(DEMO)/exported -o Global.output=$(DEMO)/predict \
	    -o 'Predict.input=dataset/instance_seg_coco_examples/images/line_00[89]?.jpg'
	@$(BIN)/python -m paddlex_seg.modes.summary $(DEMO)

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or newer is needed, found ' + sys.version"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[cpu]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[cpu,dev]"
	touch $@

format: install-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two test workers: most tests use one core, and the largest take 6 GB. With worksteal, a worker that has finished
# takes over tests of the other one, so that no core is idle at the end.
test: check
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

test-slow: install-dev
	$(BIN)/python -m pytest

# Debian packages that tests of the service use, as root: a browser, a proxy, and what clients need. Without them, these
# tests are skipped with a message.
packages:
	apt-get update -qq
	apt-get install -qq -y --no-install-recommends chromium nginx-light php-cli php-curl \
	    libcpp-httplib-dev nlohmann-json3-dev

# Runs networks for small devices as a browser does, with npm's onnxruntime-web (150 MB) in Node. Needs Node 20 and npm.
test-edge: install-dev
	npm install --prefix tests/edge
	$(BIN)/python -m pytest tests/edge

# Exports one model of each family, and compares what official PaddleX finds with it with what we find. PaddleX needs an
# environment of its own (2 GB), which is made once.
test-interop: install-dev $(INTEROP)/.installed
	$(BIN)/python benchmarks/official_paddlex.py --python $(INTEROP)/bin/python

$(INTEROP)/.installed:
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check "paddlex[base]==3.7.2" paddlepaddle==3.2.2
	touch $@

# Lists the benchmarks. The first lines of each script say what it measures and how to run it.
bench:
	@ls benchmarks/*.py

clean:
	rm -rf $(VENV) $(INTEROP) build *.egg-info
