#!/usr/bin/env bash
# docker/lock.sh FILE: install everything into a fresh environment and write what was chosen as constraints.
set -euo pipefail
out=${1:?the file to write}

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"${PYTHON:-python3}" -m venv "$fresh"
"$fresh/bin/pip" install --quiet ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "${TORCH_PIN:?}"
"$fresh/bin/pip" install --quiet -e '.[worker,dev,bench]'

# Left out: `+cpu`-like suffixes, which would tie the pins to one build of torch, and the CUDA libraries, which the
# CUDA build of torch pins by itself.
{
    echo "# Every dependency, pinned by \`make lock\`: the contract of what Pare is tested with, and installed under."
    echo "# Do not edit: change pyproject.toml and run it again."
    "$fresh/bin/pip" freeze --exclude pare |
        grep -E '^[A-Za-z0-9._-]+==' |
        grep -viE '^(nvidia|cuda|triton)[a-z0-9._-]*==' |
        sed -E 's/\+[a-z0-9.]+$//' |
        LC_ALL=C sort -f
} >"$fresh/constraints.txt"
mv "$fresh/constraints.txt" "$out"
