# Two commands: `make demo` runs the main job, `make test` runs the test suite.
# Both set up .venv on the first call and reuse it until pyproject.toml or constraints.txt changes.

PYTHON = python3
VENV = .venv
CARD = configs/demo.toml
OUT = runs/demo

.PHONY: demo test lint clean

demo: $(VENV)/.installed
	$(VENV)/bin/latticediff run $(CARD) --out $(OUT) --resume

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; say e.g. make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(VENV)/bin/python -m pip install -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	$(VENV)/bin/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV)
