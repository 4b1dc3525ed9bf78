PYTHON := .venv/bin/python

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

test: lint
	$(PYTHON) -m pytest

bench:
	$(PYTHON) -m benchmarks $(BENCH) $(if $(OUT),--out $(OUT))
