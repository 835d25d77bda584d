# Two commands matter on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
WORK   ?= .work
PEERS  := dcmtk dicom3tools orthanc orthanc-dicomweb postgresql prometheus systemd curl openssl chromium chromium-driver \
          fonts-dejavu-core haproxy libxml2-utils rsyslog rsyslog-gnutls gnupg

.PHONY: demo test lint bench capacity soak fuzz viewers image-test evaluate train export ablate lock sbom conformance clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed            ## the main job, for real, on the embedded defaults
	$(BIN)/ovcf-node demo --out demo-output

test: $(VENV)/.installed $(VENV)/.training $(VENV)-deploy/.installed peers lint   ## everything, with real peers
	$(BIN)/python -m pytest -m "not browser"
	$(BIN)/python -m pytest -m browser || $(BIN)/python -m pytest -m browser --last-failed

lint: $(VENV)/.installed
	$(BIN)/ruff check service tests models deploy

bench: $(VENV)/.installed           ## prints figures; nothing asserts them
	$(BIN)/python tests/benchmarks/bench.py

soak: $(VENV)/.installed            ## a stream of studies with kills and outages for MINUTES; prints losses and growth of memory
	$(BIN)/python tests/benchmarks/soak.py --minutes $(or $(MINUTES),10)

# Findings lie in $(WORK)/fuzz. A million PDUs, 20,000 connections and 10,000 files take 15 minutes on 2 idle processors.
fuzz: $(VENV)/.installed            ## hostile input for MINUTES at everything that strangers reach; prints what was tried and found
	PYTHONPATH=tests $(BIN)/python tests/fuzz/campaign.py --minutes $(or $(MINUTES),10) --findings $(WORK)/fuzz

# Takes about five minutes; needs PostgreSQL (make peers).
capacity: $(VENV)/.installed        ## studies per hour for N workers, what saturates first, beside a real run with 1 and 2
	$(BIN)/python tests/benchmarks/capacity.py

OHIF := $(WORK)/ohif/package
viewers: $(VENV)/.installed peers $(OHIF)/package.json   ## opens what we send in OHIF and renews deploy/viewers/*.png
	PYTHONPATH=tests $(BIN)/python tests/viewers/open_in_ohif.py --ohif $(OHIF) --out deploy/viewers

$(OHIF)/package.json:               # prebuilt pages, 50 MB; needs npm
	mkdir -p $(WORK)/ohif && cd $(WORK)/ohif && npm pack --silent @ohif/app@3.13.2 && tar xzf ohif-app-*.tgz && rm ohif-app-*.tgz

# Slow, needs root: not part of `make test`. What it builds stays below $(WORK)/image.
image-test: $(VENV)/.installed      ## build the container image without an engine and do the main job with it, no route out
	@for tool in buildah debootstrap podman crun catatonit ip; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	  --no-install-recommends buildah debootstrap podman crun catatonit iproute2 >/dev/null; fi
	PYTHONPATH=tests $(BIN)/python tests/image/image_test.py build $(WORK)/image
	PYTHONPATH=tests $(BIN)/python tests/image/image_test.py run $(WORK)/image

# make evaluate N=study=220,natural=60,negatives=200,second=60: the study's protocol; N=60 is 60 patients of each of these.
# N=third=60: the third generator, once a bundle is chosen.
evaluate: $(VENV)/.installed $(VENV)/.training  ## the whole pipeline on phantoms, N patients a cohort; stopped, it goes on
	$(BIN)/python models/training/assess.py --bundle $(or $(BUNDLE),models/reference) --n $(or $(N),60) --out $(or $(OUT),$(WORK)/evaluation)

train: $(VENV)/.installed $(VENV)/.training   ## 100 minutes on two cores (30 on a GPU) and an hour around them -> WORK/training/bundle; DEVICE=cpu|cuda, MINUTES
	$(BIN)/python models/training/train.py all --work $(WORK)/training --device $(or $(DEVICE),auto) \
	  $(if $(MINUTES),--minutes $(MINUTES))

export: $(VENV)/.installed $(VENV)/.training   ## weights of WORK/training -> bundle OUT (WORK/training/bundle); BUNDLE_VERSION of a release
	$(BIN)/python models/training/export.py --work $(WORK)/training --out $(or $(OUT),$(WORK)/training/bundle) \
	  $(if $(BUNDLE_VERSION),--version $(BUNDLE_VERSION))

ablate: $(VENV)/.installed $(VENV)/.training  ## what attention and randomised appearance add: MINUTES of processor time an arm
	PYTHONPATH=models/training $(BIN)/python -m second.samples --out $(WORK)/training/selection --count 18
	$(BIN)/python models/training/arms.py --work $(WORK)/training --minutes $(or $(MINUTES),10) \
	  --second $(WORK)/training/selection --cache $(WORK)/training/rendered

$(VENV)/.installed: requirements.lock requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# torch trains and tests the models; the node never imports it. Unhashed on purpose: the CPU build differs by index.
$(VENV)/.training: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2
	@touch $@

# Checkers of deploy/ (Compose specification, Helm itself, Kubernetes schemas), apart from everything that runs. 400 MB.
$(VENV)-deploy/.installed: Makefile
	$(PYTHON) -m venv $(VENV)-deploy
	$(VENV)-deploy/bin/pip install --quiet --disable-pip-version-check \
	  compose-spec==0.2.1 helm-python-sdk==0.2.2 kubernetes-validate==1.37.0
	@touch $@

.PHONY: peers
# RUNLEVEL=1: Debian's packages of services then do not start them.
peers:                              ## the real programs that the tests talk to (Debian packages)
	@missing=""; for tool in storescu dciodvfy Orthanc pg_createcluster promtool systemd-analyze curl openssl chromedriver haproxy xmllint rsyslogd gpg; do \
	  command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$$missing orthanc-dicomweb"; \
	ls /usr/lib/*/rsyslog/lmnsd_gtls.so >/dev/null 2>&1 || missing="$$missing rsyslog-gnutls"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing $(PEERS)"; apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PEERS) >/dev/null; \
	  else echo "missing:$$missing (Debian packages: $(PEERS))"; [ "$$CI" != true ]; fi; fi

lock: $(VENV)/.installed            ## resolve the dependencies anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --extra test -c requirements.lock pyproject.toml -o requirements-dev.lock

sbom: $(VENV)/.installed            ## deploy/SBOM.cdx.json and deploy/SOUP.md from the lock; after every change of lock or bundle
	$(BIN)/python deploy/sbom.py

conformance: $(VENV)/.installed     ## deploy/CONFORMANCE.md from its text and the tables of the code
	PYTHONPATH=deploy:tests $(BIN)/python -m conformance.write

clean:
	rm -rf demo-output $(WORK) build dist
