# Two commands: `make demo` runs the main job, `make test` runs the test suite.
# Both set up .venv on the first call and reuse it until pyproject.toml or constraints.txt changes.

PYTHON = python3
VENV = .venv
# two test files at a time (pytest-xdist): most tests use one core
PYTEST = $(VENV)/bin/python -m pytest -n 2 --dist loadfile
CARD = configs/demo.toml
OUT = runs/demo

.PHONY: dist demo test test-portable test-slurm lint docs tutorials clean

demo: $(VENV)/.installed
	$(VENV)/bin/latticediff run $(CARD) --out $(OUT) --resume

test: $(VENV)/.installed-dev
	$(PYTEST)

# The part of the suite that computes, as a lesser processor would: no fused multiply-add, no wide vectors; on one
# thread and on two, the second time with other random numbers. In an order of its own each time, in the language C, and
# with a home where nothing can be written. `make test` runs it with all that this machine has.
COMPUTES = $(addprefix tests/test_,$(addsuffix .py,kernels folded odd_sites selftest hmc fourier_hmc cluster local_updates composite \
  observables observables_reference analysis_weights metropolis latent knobs steps score ordering screening vacua diffusion orders \
  time_grid proposal vector_flow inversion refine differentiable finetune training_objectives free_energy shipped fine totals random_mass \
  random_mass_learned finite_size external_field))
LOWEST = $(subst x86_64,x86-64,$(patsubst arm64,generic,$(patsubst aarch64,generic,$(shell uname -m))))

PORTABLE = NUMBA_CPU_NAME=$(LOWEST) NUMBA_CPU_FEATURES= ATEN_CPU_CAPABILITY=default NUMBA_CACHE_DIR=$(abspath $(VENV))/lowered \
  HOME=/dev/null LC_ALL=C
ANY_ORDER = $(PYTEST) -p randomly --randomly-seed

test-portable: $(VENV)/.installed-dev
	$(PORTABLE) NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 $(ANY_ORDER)=1 $(COMPUTES)
	$(PORTABLE) NUMBA_NUM_THREADS=2 OMP_NUM_THREADS=2 LATTICEDIFF_TEST_SEEDS=17 $(ANY_ORDER)=2 $(COMPUTES)

# Arrays of runs on a real SLURM, four virtual nodes of this machine: warned, preempted, killed, at the wall-time limit.
test-slurm: $(VENV)/.installed-dev
	bash tests/slurm/install.sh
	$(VENV)/bin/python -m pytest -m slurm tests/slurm

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The site, in docs/_build/html; a dead link, a dead anchor or a warning is an error. What autosummary wrote for an earlier
# list of rooms would stay, so that both folders are made anew.
docs: $(VENV)/.installed-docs
	rm -rf docs/_build docs/api
	$(VENV)/bin/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

# The notebooks of the site, executed anew and stored with what they print.
tutorials: $(VENV)/.installed-docs
	$(VENV)/bin/python docs/execute_tutorials.py

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

$(VENV)/.installed-docs: $(VENV)/.created pyproject.toml constraints.txt
	$(VENV)/bin/python -m pip install -c constraints.txt -e '.[docs]'
	touch $@ $(VENV)/.installed

# Wheel and source archive, each installed alone into a fresh environment, where `latticediff selftest` has to pass.
dist: $(VENV)/.installed-dev
	rm -rf dist
	$(VENV)/bin/python -m pip install -c constraints.txt build
	$(VENV)/bin/python -m build
	for archive in dist/*.whl dist/*.tar.gz; do \
	  rm -rf dist/environment && $(PYTHON) -m venv dist/environment && \
	  dist/environment/bin/python -m pip install -c constraints.txt $$archive && \
	  (cd dist/environment && bin/latticediff --version && bin/latticediff selftest) || exit 1; \
	done
	rm -rf dist/environment

clean:
	rm -rf $(VENV)
