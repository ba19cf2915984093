# Two commands: `make demo` runs the main job, `make test` runs the test suite.
# Both set up .venv on the first call and reuse it until pyproject.toml or constraints.txt changes.

PYTHON = python3
VENV = .venv
# two test files at a time (pytest-xdist): most tests use one core
PYTEST = $(VENV)/bin/python -m pytest -n 2 --dist loadfile
CARD = configs/demo.toml
OUT = runs/demo

.PHONY: demo test test-portable test-slurm lint clean

demo: $(VENV)/.installed
	$(VENV)/bin/latticediff run $(CARD) --out $(OUT) --resume

test: $(VENV)/.installed-dev
	$(PYTEST)

# The part of the suite that computes, as a lesser processor would: no fused multiply-add, no wide vectors; on one
# thread and on two. `make test` runs it with all that this machine has.
COMPUTES = $(addprefix tests/test_,$(addsuffix .py,kernels folded odd_sites selftest hmc fourier_hmc cluster local_updates composite \
  observables observables_reference analysis_weights metropolis latent knobs steps score ordering screening vacua diffusion orders \
  time_grid proposal inversion refine differentiable finetune training_objectives free_energy shipped))
LOWEST = $(subst x86_64,x86-64,$(patsubst arm64,generic,$(patsubst aarch64,generic,$(shell uname -m))))

test-portable: $(VENV)/.installed-dev
	for threads in 1 2; do \
	  NUMBA_CPU_NAME=$(LOWEST) NUMBA_CPU_FEATURES= ATEN_CPU_CAPABILITY=default NUMBA_CACHE_DIR=$(abspath $(VENV))/lowered \
	  NUMBA_NUM_THREADS=$$threads OMP_NUM_THREADS=$$threads $(PYTEST) $(COMPUTES) || exit 1; \
	done

# Arrays of runs on a real SLURM, four virtual nodes of this machine: warned, preempted, killed, at the wall-time limit.
test-slurm: $(VENV)/.installed-dev
	bash tests/slurm/install.sh
	$(VENV)/bin/python -m pytest -m slurm tests/slurm

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

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
