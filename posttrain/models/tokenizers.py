"""Whether two models mean the same by a token's number, which whoever reads another's tokens must know."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

PROBES = ("What is 17 + 25?\n\n\t0.5e-3 <b>x</b>", "naïve café — 東京, 🙂‍↕️ ﷽ e\u0301", "    def f(x):\r\n        return x!=1")


def differs(ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase) -> str:
    """What two tokenizers disagree about: a token's number, or how some awkward texts are cut. Empty if nothing was found."""
    a, b = ours.get_vocab(), theirs.get_vocab()
    for token in sorted(a.keys() | b.keys()):
        if a.get(token) != b.get(token):
            return f"token {token!r} is {b.get(token, 'missing')} there and {a.get(token, 'missing')} here"
    for text in PROBES:
        if ours.encode(text) != theirs.encode(text):
            return f"{text[:16]!r} is cut into other tokens"
    return ""
