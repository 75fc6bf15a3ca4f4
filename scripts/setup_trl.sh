#!/bin/sh
# Makes .venv-trl, for parity/ and benchmarks/.
# TRL beside the same torch, transformers and PEFT that .venv has, so that a comparison compares the two libraries and nothing
# else. Called by `make bench-setup` after `make setup`.
set -eu
cd "$(dirname "$0")/.."

locked() { sed -nE "s/^($1==[^ ]+).*/\1/p" requirements.lock; }

wanted="torch==$TORCH_VERSION $(locked transformers) $(locked peft) $(locked accelerate) $(locked numpy) trl==1.16.0 datasets"
[ "$(cat .venv-trl/complete 2>/dev/null)" = "$wanted" ] && exit 0
rm -rf .venv-trl
.venv/bin/python -m venv .venv-trl
export PIP_DISABLE_PIP_VERSION_CHECK=1
printf '== installing torch %s, then TRL\n' "$TORCH_VERSION"
.venv-trl/bin/python -m pip install -q ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "torch==$TORCH_VERSION"
# shellcheck disable=SC2086  # one requirement per word is meant
.venv-trl/bin/python -m pip install -q $wanted
printf '%s' "$wanted" >.venv-trl/complete
