# The README's commands. Each makes .venv and installs into it what it needs.
PYTHON ?= python3
SECONDS ?= 1200
CHECKPOINT ?= runs/scjd_demo/student
JOBS ?= 2

.PHONY: demo browser test lint format dev fuzz chaos bench frontier

demo: .venv/run
	.venv/bin/python launch.py --config configs/scjd.py

# One offline page that runs a trained lifter. RUNTIME=litert needs npm, and RUNTIME=plain nothing.
browser: .venv/$(if $(filter litert,$(RUNTIME)),export,run)
	.venv/bin/python -m browser.build --checkpoint $(CHECKPOINT) $(if $(RUNTIME),--runtime $(RUNTIME))

test: .venv/dev
	.venv/bin/python -m pytest

# What CI asks before the tests: layout, rules and types.
lint: .venv/dev
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy

format: .venv/dev
	.venv/bin/python -m ruff format .
	.venv/bin/python -m ruff check --fix .

# Everything that a contributor needs, and the hooks that lint before a commit.
dev: .venv/dev
	.venv/bin/python -m pre_commit install

fuzz: .venv/dev
	.venv/bin/python -m tests.fuzz.run --seconds $(SECONDS)

# A hundred runs killed at random moments, which must end up as if nobody had disturbed them.
chaos: .venv/run
	.venv/bin/python -m benchmarks.chaos

# What steps, inference, pipelines, converters and compiling cost here, without the references.
bench: .venv/run
	for name in step inference pipeline convert compile; do \
	  .venv/bin/python -m benchmarks.$$name || exit; done

# The central table and picture of docs/results/frontier.md, from the records of recorded motion.
# Hours; the same command goes on where it stopped.
frontier: .venv/run
	.venv/bin/python -m kdpose_jax.study.runner configs/studies/frontier.py:mocap \
	  --config.data.records=$(RECORDS) --jobs $(JOBS)

.venv/run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python %d.%d is too old: name a Python 3.11 or later with make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/export: requirements-export.txt .venv/run
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-export.txt
	@touch $@

.venv/dev: requirements-dev.txt .venv/run
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
