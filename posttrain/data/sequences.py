"""Documents as tokens -> training sequences of one length, in a mixture of given shares of tokens.

A sequence is filled with pieces of documents. Its mask is 0 on the first token of each piece, which is only read, and 1 on
every other, which is learnt: so the mask alone says where the pieces begin. A document that stands alone begins with the
separator and ends with it; one that does not fit goes on in the next sequence behind the last token it was cut after. So
every token of every document is learnt exactly once, and no sequence is padded.

The other way, best-fit packing (arXiv:2404.10830), cuts fewer documents and leaves gaps; we keep sequences full, because here
a gap costs nothing but a cut document loses its context only once.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

Tokens = Sequence[int]
Sequenced = tuple["array[int]", "array[int]"]


def mixed(streams: Sequence[Iterator[Tokens]], weights: Sequence[float], took: Callable[[int, int], None]) -> Iterator[Tokens]:
    """Documents of all streams so that each stream's share of the tokens follows its weight, as near as whole documents
    allow: next is always the stream that is furthest behind. `took` is told (stream, tokens) of each document.

    With equal weights the rest of a longer stream comes at the end; with unequal weights the mixture ends where the first
    stream does, or its shares would not be what was asked for (as data/mix.py does for rows).
    """
    keep_shares = len(set(weights)) > 1
    tokens = dict.fromkeys(range(len(streams)), 0)
    while tokens:
        number = min(tokens, key=lambda n: (tokens[n] / weights[n], n))
        document = next(streams[number], None)
        if document is None:
            if keep_shares:
                return
            del tokens[number]
            continue
        tokens[number] += len(document)
        took(number, len(document))
        yield document


def sequences(documents: Iterable[Tokens], length: int, separator: int, *, cross: bool) -> Iterator[Sequenced]:
    """(tokens, mask) of each sequence; the last may be shorter. With `cross`, attention is to see earlier documents of the
    sequence, so only a sequence's first token is not learnt and documents follow each other behind one separator."""
    tokens, mask = array("i"), array("b")
    before = separator  # the token that the next one follows
    for document in documents:
        rest, start = [*document, separator], 0
        fresh = not cross
        while start < len(rest):
            begins = fresh or not tokens
            room = length - len(tokens) - begins
            if room < 1:
                yield tokens, mask
                tokens, mask = array("i"), array("b")
                continue
            if begins:
                tokens.append(separator if fresh else before)
                mask.append(0)
            part = rest[start : start + room]
            tokens.extend(part)
            mask.extend([1] * len(part))
            start, before, fresh = start + len(part), part[-1], False
    if tokens:
        yield tokens, mask


def alone(document: Tokens, length: int, separator: int) -> Sequenced:
    """A document by itself, cut to a length: how it is measured when it is held out."""
    tokens = array("i", [separator, *document, separator][:length])
    return tokens, array("b", [0] + [1] * (len(tokens) - 1))


def pieces(tokens: array[int], mask: array[int]) -> list[Sequenced]:
    """A sequence's pieces, each as long as from one 0 in the mask to the next."""
    starts = [i for i, learnt in enumerate(mask) if not learnt]
    return [(tokens[a:b], mask[a:b]) for a, b in zip(starts, [*starts[1:], len(mask)], strict=True)]
