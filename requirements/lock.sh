#!/usr/bin/env bash
# Write the lock files from pyproject.toml: every version with its hashes, for every platform, without torch.
# torch is installed first and by itself (README, "Installation"), so it and the CUDA packages that its Linux build
# asks for are left out here. Needs uv on the path: pip install uv
set -euo pipefail
cd "$(dirname "$0")/.."
pin=$(mktemp)
trap 'rm -f "$pin"' EXIT
echo "torch==2.13.0" >"$pin"

lock() { # NAME EXTRA...
  local name=$1 extras=() extra
  shift
  for extra in "$@"; do extras+=(--extra "$extra"); done
  uv pip compile pyproject.toml "${extras[@]}" --constraint "$pin" --universal --python-version 3.11 \
    --generate-hashes --no-header --no-annotate --quiet --output-file "requirements/$name.txt" >/dev/null
  python3 requirements/without_torch.py "requirements/$name.txt"
}

lock server server
lock worker server worker
lock dev server worker dev
