#!/usr/bin/env bash
# Walk the whole way once on real input: installs into .venv, then runs `anthology-hub quickstart`. Options go through; with
# HF_HUB_OFFLINE=0 also a --model from the Hub.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup demo
HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1} exec .venv/bin/anthology-hub quickstart "$@"
