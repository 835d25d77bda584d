# Two commands matter on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
WORK   ?= .work
PEERS  := dcmtk dicom3tools orthanc fonts-dejavu-core

.PHONY: demo test lint bench evaluate train lock clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed            ## the main job, for real, on the embedded defaults
	$(BIN)/ovcf-node demo --out demo-output

test: $(VENV)/.installed $(VENV)/.training peers lint   ## everything, with real peers
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check service tests models

bench: $(VENV)/.installed           ## prints figures; nothing asserts them
	$(BIN)/python tests/benchmarks/bench.py

evaluate: $(VENV)/.installed $(VENV)/.training  ## the whole pipeline on phantoms, N patients a cohort; stopped, it goes on
	$(BIN)/python models/training/assess.py --bundle $(or $(BUNDLE),models/reference) --n $(or $(N),60) --out $(or $(OUT),$(WORK)/evaluation)

train: $(VENV)/.installed $(VENV)/.training
	$(BIN)/python models/training/train.py all --work $(WORK)/training --minutes $(or $(MINUTES),100)

$(VENV)/.installed: requirements.lock requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# torch trains and tests the models; the node never imports it. Unhashed on purpose: the CPU build differs by index.
$(VENV)/.training: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2
	@touch $@

.PHONY: peers
peers:                              ## the real programs that the tests talk to (Debian packages)
	@missing=""; for tool in storescu dciodvfy Orthanc; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing $(PEERS)"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PEERS) >/dev/null; \
	  else echo "missing:$$missing (Debian packages: $(PEERS))"; [ "$$CI" != true ]; fi; fi

lock: $(VENV)/.installed            ## resolve the dependencies anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --extra test -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:
	rm -rf demo-output $(WORK) build dist
