#!/usr/bin/env bash
# Walk the whole way once on real input: installs into .venv, then runs `anthology-hub quickstart`. Options go through.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup demo
exec .venv/bin/anthology-hub quickstart "$@"
