# The two commands of this project, and what maintains them. Everything is made in .venv and .demo, downloads are kept
# in ~/.cache/steadyscale, and every command can be stopped and repeated.
#
#   make demo [CLIP=video] [LENGTH=seconds|all]    enhance a clip in a real ComfyUI
#   make test [ARGS=pytest-arguments]              linters, types, and all tests but the slow ones
#   make test-all                                  the same with the slow ones
#   make docs                                      the documentation site, into build/site
#   COMFYUI_PATH=folder                            for both: use this ComfyUI instead of fetching one
#   PYTHON=python3.12                              for both: which Python (3.10 or newer) to build on

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 10))
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
            $$p -c '$(NEW_ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)
endif
RUN := .venv/bin/python
export CLIP LENGTH
# Compiled Python is kept out of the source folders. Without it every test process compiles all modules and all tests.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.demo/pycache

.PHONY: demo test test-all test-portable fuzz mutants docs setup lint lock clean
.DEFAULT_GOAL := demo

demo: setup
	@$(RUN) scripts/demo.py --clip "$$CLIP" --length "$$LENGTH"

# Workers share the cores, so each uses one thread. Two more than there are cores, because those whose tests run in a
# ComfyUI or a browser wait for it; each needs about 2.5 GB of memory, with its share of these programs.
WORKERS = --numprocesses $$($(PYTHON) -c 'import os; memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"); \
            print(max(1, min(6, 2 + (os.cpu_count() or 1), 2 * memory // (5 << 30))))') \
          --dist loadfile --no-loadscope-reorder
LINT_LOG := .demo/logs/lint.log
COMPILED := $(PYTHONPYCACHEPREFIX)/tests.stamp
SELECTION := -m "not slow"
# The first time one process compiles all modules and tests, beside the linters: workers that start together would each
# compile all of them.
test: BOOTSTRAP_FLAGS := --tests
test: setup
	@if [ -n "$(ARGS)" ]; then $(MAKE) --no-print-directory lint && $(RUN) -m pytest $(ARGS); exit $$?; fi; \
	mkdir -p $(dir $(LINT_LOG)); \
	$(MAKE) --no-print-directory lint > $(LINT_LOG) 2>&1 & \
	test -e $(COMPILED) || { $(RUN) -m pytest --collect-only --quiet > /dev/null && touch $(COMPILED); }; \
	OMP_NUM_THREADS=1 $(RUN) -m pytest $(WORKERS) $(SELECTION); code=$$?; \
	wait $$! || code=1; cat $(LINT_LOG); exit $$code

test-all: SELECTION :=
test-all: test

# For a change of arithmetic: tests with the instruction sets and the thread counts of other computers.
test-portable: BOOTSTRAP_FLAGS := --tests
test-portable: setup
	@$(RUN) scripts/test_portable.py $(ARGS)

# The documentation site, into build/site. Its generator finds packages by the names of their folders, and a clone may
# have any name.
docs: setup
	@parent=$$(mktemp -d) && ln -s "$(CURDIR)" "$$parent/steadyscale" && \
	PYTHONPATH="$$parent" NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet --site-dir build/site; \
	code=$$?; rm -r "$$parent"; exit $$code

setup:
	@$(or $(PYTHON),false) -c '$(NEW_ENOUGH)' || { echo "This needs Python 3.10 or newer: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) scripts/bootstrap.py $(BOOTSTRAP_FLAGS)

# Mutated inputs of all kinds, until Ctrl-C; what fails is kept in build/fuzz.
fuzz: BOOTSTRAP_FLAGS := --tests
fuzz: setup
	@PYTHONPATH=tests/support $(RUN) tests/fuzz/run_cases.py --forever

# Changes the code in small ways, and lists the changes that no test detects: make mutants ARGS=core/shots.py
mutants: BOOTSTRAP_FLAGS := --tests
mutants: setup
	@$(RUN) scripts/mutants.py $(ARGS)

lint: setup
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -m pyright --pythonpath $(RUN)
	@.venv/bin/lint-imports --no-cache --no-logo >/dev/null || .venv/bin/lint-imports --no-cache
	@$(RUN) -m codespell_lib

# For a change of dependencies: pins them anew.
lock:
	@$$($(PYTHON) -c 'import sys; sys.path.insert(0, "scripts"); import uvtool; print(uvtool.get_uv())' | tail -1) \
	  pip compile scripts/environment.in pyproject.toml --extra dev --extra docs --extra opencv --universal --python-version 3.10 \
	  --generate-hashes --no-annotate --custom-compile-command "make lock" --quiet --output-file scripts/environment.lock

clean:
	rm -rf .venv .demo tests-artifacts
