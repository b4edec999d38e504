#!/usr/bin/env bash
# On a machine with CUDA, Python 3.12 and torch 2.11: install the wheels that were carried along, if
# any, beside what is there, and run everything that has to be found out on a GPU.
#
#     [WHEELS=folder] benches/gpu_once.sh [options of gpu_once.py]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  # One by one: a wheel that does not fit stops nothing.
  for wheel in "$WHEELS"/*.whl; do
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheel" ||
      echo "not installed: $wheel" >&2
  done
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
export PYTHONPATH=$root/python${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
"$python" "$root/benches/gpu_once.py" "$@"
