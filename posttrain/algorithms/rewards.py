"""Shaping of rewards before advantages are taken."""

from __future__ import annotations


def overlong_penalty(length: int, longest: int, buffer: int) -> float:
    """DAPO's soft overlong punishment (arXiv:2503.14476, equation 13): 0 up to longest - buffer tokens, falling linearly to
    -1 at `longest`."""
    return -min(1.0, max(0, length - (longest - buffer)) / buffer)
