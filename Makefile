# make install   the project and its development tools in .venv, in the versions of constraints.txt
# make demo      the main job: features of real digits, and heads trained on them
# make test      the tests;  make test-slow: those that take longer;  make test-jax: without TensorFlow
# make test MARKS="slow or not slow"   all of them, in one session
# make browser   Chromium, in which the tests try pages; they install it where it is missing
# make lint      ruff and mypy
# make docs      the documentation, in site/; a broken link is an error
# make bench     the benchmarks

PYTHON ?= python3
BIN := .venv/bin
# On every core, but no more than four: a net of the slow tests takes up to 5 GB of memory.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal
MARKS ?= not slow
# Else each of the many processes that tests start compiles all modules that it imports.
unexport PYTHONDONTWRITEBYTECODE
# Tests of transfer that are of images, tables, searches, files and the order of steps, and of nets that are converted by a process
# with a backend of its own: the backend has no part in them. Extraction, too, is computed by OpenVINO, whatever the
# backend; test_extract.py, test_from_shallower.py and test_multi_device.py look whether it is where only JAX is.
NO_BACKEND := $(addprefix --ignore=tests/transfer/,data search test_file_signatures.py)
NO_BACKEND += $(addprefix --ignore=tests/transfer/,engines/conversion engines/test_conversions.py)
NO_BACKEND += $(addprefix --ignore=tests/transfer/extraction/test_,coordination.py extractor.py lookup_shrunk.py loop.py on_ray.py)
NO_BACKEND += $(addprefix --ignore=tests/transfer/extraction/test_,plan.py reading_and_writing.py recompute.py views.py)
NO_BACKEND += $(addprefix --ignore=tests/transfer/,engines/test_openvino_files.py nets/openvino_files)
NO_BACKEND += --ignore=tests/transfer/nets/test_expected_pixels.py
# JAX compiles each operation of this net. Its outputs are compared with those of PyTorch there, too; the rest of the
# file is of layers, tensors and what is seen in photographs.
LITE := tests/transfer/nets/efficientnet_lite/test_efficientnet_lite.py
NO_BACKEND += $(addprefix --deselect=$(LITE)::Test,Architecture Tensors Package)
NO_BACKEND += --deselect=$(LITE)::TestWeights::test_its_first_five_classes_are_what_a_person_would_say
# pip would compile all modules on one core, which takes more than half of its time.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
# Nothing here imports these, a seventh of all that would be compiled. (mypy is compiled already, to machine code.)
NOT_COMPILED := '/(tests|sympy|pip|setuptools|mypy|mypyc)/'

.PHONY: install install-jax browser demo test test-slow test-jax lint docs bench clean

install: .venv/installed

.venv/installed: setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Layertap needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "This Python lacks the venv module; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) --editable '.[tensorflow,photos,compression,parquet,onnx,int8,hub,cloud,ray,dev,docs]'
	$(BIN)/python -m compileall -q -j 0 -x $(NOT_COMPILED) .venv/lib >/dev/null || true  # some files are for other versions
	touch $@

# Debian's Chromium, in which the tests try pages.
browser:
	@command -v chromium >/dev/null || { \
		apt="apt-get"; [ "$$(id -u)" = 0 ] || apt="sudo -n apt-get"; \
		$$apt update -qq && $$apt install -y -qq chromium >/dev/null || \
		{ echo "The tests of pages need Chromium; on Debian: sudo apt-get install chromium"; exit 1; }; }

demo: install
	$(BIN)/python -m examples.demo

test: install browser
	$(BIN)/python -m pytest $(PARALLEL) -m "$(MARKS)"

test-slow: install
	$(BIN)/python -m pytest $(PARALLEL) -m slow --durations=15

install-jax: .venv-jax/installed

# The same tests of nets and extraction where only JAX is installed.
.venv-jax/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv-jax
	.venv-jax/bin/python $(PIP_INSTALL) --editable '.[jax,photos,compression,dev]'  # modules are compiled when they are used
	touch $@

# They wait for XLA's compiler most of all. tests/test_backends.py turns its optimizations on again.
test-jax: install-jax
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 .venv-jax/bin/python -m pytest $(PARALLEL) \
		tests/transfer tests/test_backends.py $(NO_BACKEND)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: install
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.extract
	$(BIN)/python -m benchmarks.cache
	$(BIN)/python -m benchmarks.soak
	$(BIN)/python -m benchmarks.containers
	$(BIN)/python -m benchmarks.heads
	$(BIN)/python -m benchmarks.finetune
	$(BIN)/python -m benchmarks.ramp
	$(BIN)/python -m benchmarks.defaults --folder bench --judge
	$(BIN)/python -m benchmarks.quality --folder bench
	$(BIN)/python -m benchmarks.tuning --folder bench
	$(BIN)/python -m benchmarks.pages

clean:
	rm -rf .venv .venv-jax build *.egg-info features demo mnist_ramp site
