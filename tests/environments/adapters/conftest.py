"""Packages that scripts/setup_adapters.sh installed beside .venv are found by the tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

BESIDE = Path(__file__).resolve().parents[3] / ".adapters"
if BESIDE.is_dir():
    sys.path.append(str(BESIDE))
