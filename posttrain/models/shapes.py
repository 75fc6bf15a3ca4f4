"""Few different shapes for the products of a CPU.

The matrix library compiles a kernel for each shape it meets and keeps a part of it for good, a quarter of a megabyte a shape
where it was measured. Packed rows have another length every time, so without rounding memory would grow with every step of
a long run, and freed blocks would never fit the next step's tensors.
"""

from __future__ import annotations


def rounded_tokens(count: int) -> int:
    """Tokens of a packed row: at most 1/32 more, or 15."""
    return up(count, max(16, 1 << max(0, count.bit_length() - 6)))


def rounded_rows(count: int) -> int:
    """Rows of a batch of products: at most a quarter more."""
    return up(count, 1 << max(0, count.bit_length() - 3))


def rounded_width(count: int) -> int:
    """Queries or keys of one row."""
    return up(count, 16)


def up(count: int, step: int) -> int:
    return -(-count // step) * step
