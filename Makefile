# Needs Python 3.11 or later, make and git. Every target makes the environment it needs, once.

PYTHON  ?= python3
BACKEND ?= tensorflow
ARGS    ?=

DEMO := .venv/demo-$(BACKEND)
TEST := .venv/test

# tensorflow-cpu stands for tensorflow in our own environments: no CUDA, a smaller download.
PACKAGE_tensorflow := tensorflow-cpu
PACKAGE_jax        := jax
PACKAGE_torch      := torch
BACKEND_PACKAGE     = $(or $(PACKAGE_$(BACKEND)),$(error BACKEND is tensorflow, jax or torch, not '$(BACKEND)'))

# -qq: pip says nothing unless it fails.
PIP_INSTALL := -m pip install -qq --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint types docs benchmark clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: $(DEMO)/.ready  ## Distil a small student: BACKEND=tensorflow (default), jax or torch
	@KERAS_BACKEND=$(BACKEND) TF_CPP_MIN_LOG_LEVEL=2 $(DEMO)/bin/python examples/quickstart.py $(ARGS)

test: $(TEST)/.ready  ## Run the tests on all three backends: ARGS="--backends jax -k losses"
	@$(TEST)/bin/python tests/run_all.py $(ARGS)

lint: $(TEST)/.ready  ## Check style, format and file length
	@$(TEST)/bin/ruff check .
	@$(TEST)/bin/ruff format --check .
	@find keras_ats -name '*.py' | xargs wc -l | \
	    awk '$$2 != "total" && $$1 > 300 {print $$2 ": " $$1 " lines; the limit is 300"; long = 1} END {exit long}'

types: $(TEST)/.ready  ## Check types
	@$(TEST)/bin/mypy

# The variable silences an announcement of the theme's makers, not a warning about these pages.
docs: $(TEST)/.ready  ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(TEST)/bin/mkdocs build --strict --quiet

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
	@$(DEMO)/bin/python $(PIP_INSTALL) -e . scikit-learn matplotlib rich
	@touch $@

$(TEST)/.ready: pyproject.toml constraints.txt
	@echo "Making $(TEST): keras_ats with all three backends and every tool. The first time takes several minutes."
	@$(PYTHON) -m venv $(TEST)
	@$(TEST)/bin/python $(PIP_INSTALL) torch==2.13.0
	@$(TEST)/bin/python $(PIP_INSTALL) -e '.[dev,docs,export]' tensorflow-cpu jax tensorflow-datasets keras-cv
	@$(TEST)/bin/python $(PIP_INSTALL) --no-deps keras-hub tokenizers
	@touch $@
