# The README's two commands, what looks for files that break the readers, and what kills runs. Each makes .venv, installs into it, and runs.
PYTHON ?= python3
SECONDS ?= 1200

.PHONY: demo test fuzz chaos

demo: .venv/run
	.venv/bin/python launch.py --config configs/scjd.py

test: .venv/dev
	.venv/bin/python -m pytest

fuzz: .venv/dev
	.venv/bin/python -m tests.fuzz.run --seconds $(SECONDS)

# A hundred runs killed at random moments, which must end up as if nobody had disturbed them; about 20 minutes on 2 cores.
chaos: .venv/run
	.venv/bin/python -m benchmarks.chaos

.venv/run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python %d.%d is too old: name a Python 3.11 or later with make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev: requirements-dev.txt .venv/run
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
