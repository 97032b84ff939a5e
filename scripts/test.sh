#!/usr/bin/env bash
# Everything that must hold: lint, types, all tests with branch coverage. Options go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup demo,dev
bin=.venv/bin
$bin/ruff check .
$bin/ruff format --check .
$bin/mypy
# Three workers on two cores: many tests wait for a server.
exec $bin/python -m pytest -n 3 --dist worksteal --cov --cov-report=term:skip-covered "$@"
