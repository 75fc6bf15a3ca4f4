"""The command line. `posttrain --help` imports neither torch nor any part of the project that needs it.

Exit codes: 0 done; 1 our bug; 2 the input is wrong; 3 a promise was broken or a gate failed; 4 the environment failed;
130 and 143 interrupted, with a clean checkpoint.
"""

from __future__ import annotations

from posttrain.cli.main import main

__all__ = ["main"]
