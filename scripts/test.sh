#!/usr/bin/env bash
# Everything that must hold: lint, types, all tests with branch coverage. Options go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup demo,dev
bin=.venv/bin
$bin/ruff check .
$bin/ruff format --check .
$bin/mypy
exec $bin/python -m pytest --cov --cov-report=term:skip-covered "$@"
