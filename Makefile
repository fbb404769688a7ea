# The README's two commands, and one for patient machines. Each makes .venv, installs into it, and runs.
PYTHON ?= python3

.PHONY: demo test chaos

demo: .venv/run
	.venv/bin/python launch.py --config configs/scjd.py

test: .venv/dev
	.venv/bin/python -m pytest

# A hundred runs killed at random moments, which must end up as if nobody had disturbed them; half an hour on 2 cores.
chaos: .venv/run
	.venv/bin/python benchmarks/chaos.py

.venv/run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python %d.%d is too old: name a Python 3.11 or later with make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev: requirements-dev.txt .venv/run
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
