# Python: the virtual environment, the wheel, the tests. Included by the Makefile of the root.

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
# Built anew when the pinned tools change.
VENV_STAMP := $(VENV)/.ready
WHEEL_DIR ?= dist

$(VENV_STAMP): python/requirements-dev.txt | .need-python
	rm -rf $(VENV)
	'$(PYTHON)' -m venv $(VENV)
	$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

.PHONY: venv
venv: $(VENV_STAMP) ## Make ./.venv with the pinned Python tools

.PHONY: wheel
wheel: .need-rust $(VENV_STAMP) ## Build the Python wheel into ./dist (WHEEL_DIR=)
	$(VENV)/bin/maturin build --out '$(WHEEL_DIR)'

# The development profile: quick to build, and with the engine's debug assertions on.
.PHONY: develop
develop: .need-rust $(VENV_STAMP) ## Build the Python extension in place and install it in ./.venv
	VIRTUAL_ENV='$(CURDIR)/$(VENV)' $(VENV)/bin/maturin develop --quiet --profile dev

.PHONY: test-python
test-python: develop ## Run the Python tests
	$(VENV_PYTHON) -m pytest -q

.PHONY: lint-python
lint-python: develop ## Check the types of the Python package and that its stub is true
	$(VENV_PYTHON) -m mypy
	@for program in python/harnesses/*/; do \
	    echo "mypy $$program"; \
	    MYPYPATH="python:$$program" $(VENV_PYTHON) -m mypy --strict --scripts-are-modules \
	        $$(grep -lE '^#!.*python|^"""' $$program*) || exit 1; \
	done
	MYPYPATH=python:python/tests/harnesses $(VENV_PYTHON) -m mypy --strict python/tests/harnesses
	$(VENV_PYTHON) -m mypy.stubtest ringkv --mypy-config-file pyproject.toml \
	    --allowlist python/stubtest-allowlist.txt
