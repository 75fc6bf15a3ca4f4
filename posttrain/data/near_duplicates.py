"""Near-duplicates removed in one pass: rows whose word 5-grams overlap like those of a row kept before.

MinHash with banded locality-sensitive hashing (Broder, 1997; arXiv:2107.06499 shows what near-duplicates cost a language model),
by the library datasketch. A row is dropped if the Jaccard similarity of its 5-grams to a kept row's is estimated at `threshold`
or more; with 128 permutations the estimate's standard error is at most 0.045. System prompts do not count, they are shared on
purpose. The first of two copies stays, so the order of the rows decides which, and the same rows always give the same result.

Memory is bounded: the last REMEMBERED kept rows are compared with, at 4 kB (threshold 0.9) to 11 kB (0.5) each, so at most
0.6 GB; copies farther apart are not found. A copy right at the threshold is found four times in five, one 0.05 above it nearly
always. Rows made from one template are near-duplicates of each other by design: a threshold that suits the web would leave
few of them. Fails for paraphrases and translations, and for rows of under ten words, where one changed word is most of the row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from posttrain.core.types import Conversation, Example
from posttrain.data.decontaminate import words

SHINGLE = 5
PERMUTATIONS = 128
REMEMBERED = 50_000

Sketch = Any
"""datasketch.LeanMinHash, which is loaded when a row is sketched: it brings scipy with it."""


class NearUnique:
    """An iterator over examples without near-copies. `dropped` counts the rest."""

    def __init__(self, examples: Iterable[Example], threshold: float, *, remembered: int = REMEMBERED) -> None:
        from datasketch import MinHashLSH

        self._examples, self._threshold, self._remembered = iter(examples), threshold, remembered
        # misses cost more than false proposals, which the whole sketch refuses
        self._index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
        self._kept: dict[int, Sketch] = {}
        self._order: deque[int] = deque()
        self._number = self.dropped = 0

    def __iter__(self) -> Iterator[Example]:
        return self

    def __next__(self) -> Example:
        for example in self._examples:
            sketch = sketched(example)
            if sketch is None or not self._known(sketch):
                if sketch is not None:
                    self._remember(sketch)
                return example
            self.dropped += 1
        raise StopIteration

    def _known(self, sketch: Sketch) -> bool:
        """The bands propose, the whole sketch decides."""
        return any(self._kept[number].jaccard(sketch) >= self._threshold for number in self._index.query(sketch))

    def _remember(self, sketch: Sketch) -> None:
        if len(self._order) == self._remembered:
            oldest = self._order.popleft()
            self._index.remove(oldest)
            del self._kept[oldest]
        self._index.insert(self._number, sketch)
        self._kept[self._number] = sketch
        self._order.append(self._number)
        self._number += 1


def near_unique(examples: Iterable[Example], threshold: float) -> NearUnique:
    """The examples without near-copies of earlier ones; afterwards `.dropped` of the iterator says how many were left out."""
    return NearUnique(examples, threshold)


def sketched(example: Example) -> Sketch | None:
    """128 minima over the row's 5-grams; None for a row without words, which resembles nothing."""
    from datasketch import LeanMinHash, MinHash

    found = shingles(example)
    if not found:
        return None
    sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
    sketch.update_batch([" ".join(each).encode() for each in found])
    return LeanMinHash(sketch)


def shingles(example: Example) -> set[tuple[str, ...]]:
    """The row's word 5-grams; of a row of fewer words, the row."""
    if isinstance(example, Conversation):
        said = [f"{m.role} {m.thinking} {m.content}" for m in example.messages if m.role != "system"]
    else:
        said = [example.prompt, example.completion]
    text = words(" ".join(said))
    if not text:
        return set()
    return {text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1))}
