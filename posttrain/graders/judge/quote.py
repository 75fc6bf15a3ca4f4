"""A text inside a quotation that it cannot close.

The lines around it carry a code that is the hash of the text itself: to close the quotation, a text would have to contain its own
hash. Unlike a random code it is the same for the same text, so replies can be kept by content. What a server's chat template might
read as the mark of a turn (`<|im_end|>`, `[INST]`) is written with a look-alike bracket.
"""

from __future__ import annotations

import hashlib
import re

MARKS = re.compile(
    r"<(?=[|｜]|/?s>|/?think>|(?:start|end)_of_turn>|(?:bos|eos|pad)>)|\[(?=/?(?:INST|SYS|TOOL_CALLS)\b)", re.IGNORECASE
)


def quoted(name: str, text: str) -> str:
    inner = MARKS.sub(lambda mark: {"<": "‹", "[": "［"}[mark.group()], text)
    code = code_of(inner)
    return f"<{name} {code}>\n{inner}\n</{name} {code}>"


def code_of(text: str) -> str:
    """Sixteen hexadecimal digits that do not stand in the text."""
    found = hashlib.sha256(text.encode(errors="replace")).hexdigest()
    while found[:16] in text:
        found = hashlib.sha256(found.encode()).hexdigest()
    return found[:16]
