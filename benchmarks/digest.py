"""What a program was really given, as one short text: token ids, which of them carry loss, and the order of the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


def digest(rows: Iterable[tuple[Sequence[int], Sequence[int]]]) -> str:
    """Of rows of token ids and a mask of 0 and 1, equally long, in their order."""
    found = hashlib.sha256()
    for tokens, mask in rows:
        found.update(",".join(map(str, tokens)).encode() + b"|" + bytes(map(int, mask)) + b"\n")
    return found.hexdigest()[:16]


def useful_tokens(rows: Iterable[tuple[Sequence[int], Sequence[int]]]) -> int:
    """Tokens with a loss, and tokens of context that differ: what several rows of a step begin with alike counts once."""
    loss, contexts = 0, set()
    for tokens, mask in rows:
        loss += sum(map(bool, mask))
        place = hashlib.sha256()
        for token, counted in zip(tokens, mask, strict=True):
            place.update(token.to_bytes(4, "little"))
            if not counted:
                contexts.add(place.digest())
    return loss + len(contexts)
