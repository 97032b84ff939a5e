.PHONY: install fix check test bench starter

install:  ## make .venv with everything
	bash -c 'source scripts/setup.sh && setup demo,dev' && .venv/bin/pre-commit install

fix:  ## format and mend what can be mended
	.venv/bin/ruff check --fix . && .venv/bin/ruff format .

check:  ## lint and types
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

test:  ## all that CI runs
	scripts/test.sh

bench:  ## every ratio against its named peer in one table, bench.md; ARGS=--small to see that all of them run
	bash -c 'source scripts/setup.sh && setup demo,dev,bench' && .venv/bin/python scripts/bench.py --to bench.md $(ARGS)

starter:  ## check the stories and rebuild the starter collection
	.venv/bin/python scripts/check_starter.py && .venv/bin/python scripts/build_starter.py
