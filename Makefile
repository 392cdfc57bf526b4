# Needs Python 3.11 or later, make and git. Every target makes the environment it needs, once.

PYTHON  ?= python3
BACKEND ?= tensorflow
ARGS    ?=
KERAS   ?=

DEMO  := .venv/demo-$(BACKEND)
TEST  := .venv/test
BUILD := .venv/build
# Where the wheel is installed, with one backend, one version of Keras and nothing of the checkout.
WHEEL := .venv/keras-$(or $(KERAS),lowest)-$(BACKEND)

# tensorflow-cpu stands for tensorflow in our own environments: no CUDA, a smaller download.
PACKAGE_tensorflow := tensorflow-cpu
PACKAGE_jax        := jax
PACKAGE_torch      := torch
BACKEND_PACKAGE     = $(or $(PACKAGE_$(BACKEND)),$(error BACKEND is tensorflow, jax or torch, not '$(BACKEND)'))

# KERAS is a version, or one of these names. The lowest is the one that pyproject.toml asks for.
KERAS_lowest  := $(shell sed -n 's/^dependencies = .*"keras>=\([0-9.]*\)".*/keras==\1/p' pyproject.toml)
KERAS_newest  := keras
KERAS_nightly := keras-nightly
KERAS_PACKAGE  = $(or $(KERAS_$(or $(KERAS),lowest)),keras==$(KERAS))

# What is run with another Keras: what leans on Keras most, without the slowest of it.
SHORT_SET := $(addprefix tests/test_,keras_doors.py views.py views_untouched.py golden.py \
    conventions.py lesson.py distiller_objective.py distiller_saving.py distiller_teacher.py \
    distiller_modes.py) \
    -k "not (bit_for_bit or forward_passes or every_mode or writing_the_models or two_and_two)"

# -qq: pip says nothing unless it fails.
PIP         := -m pip install -qq --disable-pip-version-check
PIP_INSTALL := $(PIP) -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lowest coverage lint types docs package bench benchmark clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: $(DEMO)/.ready  ## Distil a small student: BACKEND=tensorflow (default), jax or torch
	@KERAS_BACKEND=$(BACKEND) TF_CPP_MIN_LOG_LEVEL=2 $(DEMO)/bin/python examples/quickstart.py $(ARGS)

ifeq ($(KERAS),)
test: $(TEST)/.ready  ## Run the tests on all three backends: ARGS="--backends jax -k losses"
	@$(TEST)/bin/python tests/run_all.py $(ARGS)
else
# The variable keeps Python from looking in this folder, where it would find the checkout's package.
test: package  # Run a short set of tests with another Keras: KERAS=3.12.0, lowest, newest or nightly
	@PYTHONSAFEPATH=1 $(WHEEL)/bin/python tests/run_all.py --backends $(BACKEND) $(SHORT_SET) $(ARGS)
endif

lowest:  # What .ci/run asks of the lowest Keras
	@$(MAKE) --no-print-directory test KERAS=lowest

coverage: $(TEST)/.ready  ## Report the lines that the tests run; ARGS as for test
	@$(TEST)/bin/coverage erase
	@$(TEST)/bin/python tests/run_all.py --cov=keras_ats --cov-report= $(ARGS)
	@$(TEST)/bin/coverage combine --quiet
	@$(TEST)/bin/coverage report --skip-covered --show-missing
	@$(TEST)/bin/coverage html --quiet

lint: $(TEST)/.ready  ## Check style and format; remark on long files
	@$(TEST)/bin/ruff check .
	@$(TEST)/bin/ruff format --check .
	@find keras_ats -name '*.py' | xargs wc -l | \
	    awk '$$2 != "total" && $$1 > 300 {print "remark: " $$2 " has " $$1 " lines; are they one subject?"}'

types: $(TEST)/.ready  ## Check types
	@$(TEST)/bin/mypy

# The variable silences an announcement of the theme's makers, not a warning about these pages.
# Not --quiet: what it silences, --strict does not count.
docs: $(TEST)/.ready  ## Build the documentation into site/; any warning fails
	@NO_MKDOCS_2_WARNING=1 $(TEST)/bin/mkdocs build --strict

# The package is built from the sdist, as a packager would, and checked far from the checkout.
package: $(BUILD)/.ready $(WHEEL)/.ready  ## Build dist/ and check what people install: KERAS as for test
	@rm -rf dist
	@$(BUILD)/bin/python -m build --no-isolation --quiet
	@$(WHEEL)/bin/python $(PIP) --no-deps --force-reinstall dist/*.whl
	@cd "$$(mktemp -d)" && KERAS_BACKEND=$(BACKEND) TF_CPP_MIN_LOG_LEVEL=2 \
	    $(CURDIR)/$(WHEEL)/bin/python -P $(CURDIR)/tests/wheel_check.py $(CURDIR)/dist

bench: $(TEST)/.ready  ## Time steps and losses on all three backends, in the short form
	@for backend in tensorflow jax torch; do for script in step loss; do \
	    KERAS_BACKEND=$$backend TF_CPP_MIN_LOG_LEVEL=2 \
	        $(TEST)/bin/python benchmarks/$$script.py --short $(ARGS) || exit 1; \
	done; done

benchmark: $(TEST)/.ready  ## Time a training step: BACKEND=tensorflow (default), jax or torch
	@KERAS_BACKEND=$(BACKEND) TF_CPP_MIN_LOG_LEVEL=2 $(TEST)/bin/python benchmarks/step.py $(ARGS)

clean:  ## Remove environments, caches and built files
	rm -rf .venv site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is finished when its .ready file exists; a change of what it was made from makes it
# stale. torch comes first and by itself, so that nothing installed with it can choose its build.
# keras-hub comes without what it asks for: tensorflow-text would bring a second TensorFlow, and the
# rest is here with keras-cv, but for tokenizers.

$(DEMO)/.ready: pyproject.toml constraints.txt
	@echo "Making $(DEMO): keras_ats with $(BACKEND_PACKAGE). The first time takes a few minutes."
	@$(PYTHON) -m venv $(DEMO)
	@$(DEMO)/bin/python $(PIP_INSTALL) $(BACKEND_PACKAGE)
	@$(DEMO)/bin/python $(PIP_INSTALL) -e . scikit-learn matplotlib
	@touch $@

$(TEST)/.ready: pyproject.toml constraints.txt
	@echo "Making $(TEST): keras_ats with all three backends and every tool. The first time takes several minutes."
	@$(PYTHON) -m venv $(TEST)
	@$(TEST)/bin/python $(PIP_INSTALL) torch==2.13.0
	@$(TEST)/bin/python $(PIP_INSTALL) -e '.[dev,docs,export]' tensorflow-cpu jax tensorflow-datasets keras-cv
	@$(TEST)/bin/python $(PIP_INSTALL) --no-deps keras-hub tokenizers
	@touch $@

$(BUILD)/.ready: pyproject.toml constraints.txt
	@echo "Making $(BUILD): what builds the package."
	@$(PYTHON) -m venv $(BUILD)
	@$(BUILD)/bin/python $(PIP_INSTALL) build hatchling
	@touch $@

# pip chooses the TensorFlow that goes with this Keras. keras-nightly takes the place of the keras
# that TensorFlow brings.
$(WHEEL)/.ready: pyproject.toml constraints.txt
	@echo "Making $(WHEEL): $(KERAS_PACKAGE) and $(BACKEND_PACKAGE). The first time takes a minute."
	@$(PYTHON) -m venv $(WHEEL)
	@grep -vE '^(keras|tensorflow-cpu)==' constraints.txt > $(WHEEL)/constraints.txt
	@$(WHEEL)/bin/python $(PIP) -c $(WHEEL)/constraints.txt \
	    $(patsubst keras-nightly,keras,$(KERAS_PACKAGE)) $(BACKEND_PACKAGE) pytest hypothesis
ifeq ($(KERAS),nightly)
	@$(WHEEL)/bin/python -m pip uninstall -qq -y keras
	@$(WHEEL)/bin/python $(PIP) --pre --no-deps keras-nightly
endif
	@touch $@
