#!/bin/sh
# Writes requirements.lock.
# Every dependency but torch and what only its CUDA build needs; one version for all Pythons and systems, with hashes, naming
# no index. torch itself comes by pip before it (scripts/setup.sh).
set -eu
cd "$(dirname "$0")/.."
.venv/bin/python -m pip install -qq uv

compile() {
    echo "torch==$TORCH_VERSION" | .venv/bin/python -m uv pip compile pyproject.toml --extra dev --universal --fork-strategy fewest \
        --quiet --no-header --no-annotate --constraint /dev/stdin "$@"
}

left_out=$(compile | sed -nE 's/^((torch|triton|nvidia-[a-z0-9-]*|cuda-[a-z0-9-]*))==.*/--no-emit-package \1/p')
# shellcheck disable=SC2086  # one option per word is meant
compile $left_out --generate-hashes >.venv/requirements.lock
mv .venv/requirements.lock requirements.lock
