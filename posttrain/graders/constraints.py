"""Whether a text keeps one constraint: counting, searching and comparing, each a few lines that say what is counted.

In the spirit of IFEval (arXiv:2311.07911), with stricter readings where its own can be had for free: keywords are whole words,
numbered items count from 1 without gaps, the same placeholder counts once, parts must differ. A word is a run of letters and
digits (apostrophes, hyphens and points inside belong to it), so texts in scripts without spaces have few. A sentence ends with
a stop before a space; common abbreviations do not end one, rare ones do.
A text that keeps its constraints may still say nothing: whether it answers is another grader's work.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from posttrain.core.config import Constraint
from posttrain.graders import json_schema, language_share
from posttrain.graders.lookup_answer import normalise

COMMAS = ",，、،"
_word = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_abbreviations = re.compile(r"(?:\b[A-Z]\.){2,}(?=\s+[a-z])|\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|No|approx)\.(?=\s)")
_stop = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+")
_divider = re.compile(r"^\s*(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})$", re.M)
_bullet = re.compile(r"^[ \t]*[-*•+][ \t]+\S", re.M)
_item = re.compile(r"^[ \t]*(\d{1,3})[.)][ \t]+\S", re.M)
_placeholder = re.compile(r"\[([^\[\]\n]*\w[^\[\]\n]*)\]")
_highlight = re.compile(r"\*\*[^*\n]*\w[^*\n]*\*\*|(?<!\*)\*(?![*\s])[^*\n]*\w[^*\n]*\*(?!\*)")
_title = re.compile(r"\s*<<[^<>\n]*\w[^<>\n]*>>\s*(?:\n|$)")
_quotes = (('"', '"'), ("“", "”"), ("„", "“"), ("«", "»"))

Check = Callable[[Constraint, str], str]
"""What is wrong with the text; empty if it keeps the constraint."""


def within(constraint: Constraint, found: int, what: str) -> str:
    if constraint.at_least is not None and found < constraint.at_least:
        return f"{found} {what}, not at least {constraint.at_least}"
    if constraint.at_most is not None and found > constraint.at_most:
        return f"{found} {what}, not at most {constraint.at_most}"
    return ""


def counting(count: Callable[[Constraint, str], int], what: str) -> Check:
    return lambda constraint, text: within(constraint, count(constraint, text), what.format(constraint))


def words(constraint: Constraint, text: str) -> int:
    return len(_word.findall(text))


def sentences(constraint: Constraint, text: str) -> int:
    pieces = _stop.split(_abbreviations.sub("", _divider.sub("", text)))
    return sum(1 for piece in pieces if _word.search(piece))


def paragraphs_of(text: str) -> list[str]:
    """Blocks of lines between blank lines and dividers."""
    return [block.strip() for block in re.split(r"\n\s*\n", _divider.sub("\n\n", text)) if block.strip()]


def items(constraint: Constraint, text: str) -> int:
    """Lines numbered 1, 2, 3, ...; a list that skips or repeats a number has none."""
    numbers = [int(number) for number in _item.findall(text)]
    return len(numbers) if numbers == list(range(1, len(numbers) + 1)) else 0


def sections(constraint: Constraint, text: str) -> int:
    """Lines that begin with the name and a number, `Section 2`, whatever marks of a heading stand before it."""
    return len(set(re.findall(rf"^[\s#*_]*{re.escape(constraint.text)}\s+(\d+)\b", text, flags=re.M | re.I)))


def parts(constraint: Constraint, text: str) -> int:
    """What the mark separates; nothing if a part is empty or says the same as another."""
    found = [normalise(part) for part in text.split(constraint.text)]
    return len(found) if all(found) and len(set(found)) == len(found) else 0


def phrase(text: str) -> re.Pattern[str]:
    """Whole words, in any case and with any space between them."""
    inner = r"\s+".join(re.escape(word) for word in text.split())
    before, after = r"(?<!\w)" if text[:1].isalnum() else "", r"(?!\w)" if text[-1:].isalnum() else ""
    return re.compile(before + inner + after, re.I)


def include(constraint: Constraint, text: str) -> str:
    missing = [each for each in constraint.texts if not phrase(each.strip()).search(text)]
    return f"without {', '.join(map(repr, missing))}" if missing else ""


def exclude(constraint: Constraint, text: str) -> str:
    found = [each for each in constraint.texts if phrase(each.strip()).search(text)]
    return f"with {', '.join(map(repr, found))}" if found else ""


def one_of(constraint: Constraint, text: str) -> str:
    return "" if normalise(text) in {normalise(each) for each in constraint.texts} else "not one of the answers there are"


def starts_with(constraint: Constraint, text: str) -> str:
    return "" if phrase(constraint.text.strip()).match(text.lstrip()) else f"does not begin with {constraint.text!r}"


def ends_with(constraint: Constraint, text: str) -> str:
    wanted, text = " ".join(constraint.text.split()).casefold(), " ".join(text.split()).casefold()
    begun = text[: -len(wanted)][-1:]
    whole = text.endswith(wanted) and not (wanted[:1].isalnum() and begun.isalnum())
    return "" if whole else f"does not end with {constraint.text!r}"


def paragraph_starts_with(constraint: Constraint, text: str) -> str:
    found = paragraphs_of(text)[constraint.number - 1 : constraint.number]
    return starts_with(constraint, found[0]) if found else f"no paragraph {constraint.number}"


def postscript(constraint: Constraint, text: str) -> str:
    """The last paragraph or the last line begins with the mark, says something, and is not all there is."""
    before, mark, after = text.rpartition(constraint.text)
    begins = bool(before.strip()) and (not before.rstrip(" *_").strip(" \t") or before.rstrip(" \t*_").endswith("\n"))
    alone = not re.search(r"\n\s*\n\s*\S", after.strip())
    return "" if mark and begins and alone and _word.search(after) else f"no postscript that begins with {constraint.text!r}"


def title(constraint: Constraint, text: str) -> str:
    return "" if _title.match(text) else "no title in << >> on the first line"


def quoted(constraint: Constraint, text: str) -> str:
    text = text.strip()
    inside = any(text.startswith(a) and text.endswith(b) and _word.search(text[1:-1]) for a, b in _quotes)
    return "" if inside else "not between double quotation marks"


def uppercase(constraint: Constraint, text: str) -> str:
    return "" if text.isupper() else "not all in capital letters"


def lowercase(constraint: Constraint, text: str) -> str:
    return "" if text.islower() else "not all in small letters"


def no_comma(constraint: Constraint, text: str) -> str:
    return "with a comma" if any(comma in text for comma in COMMAS) else ""


def language(constraint: Constraint, text: str) -> str:
    """As the language grader counts, but a text of which no word can be judged is in no language."""
    inside, total = language_share.words_in(text, constraint.language)
    kept = total > 0 and inside / total >= language_share.PASSED_FROM
    return "" if kept else f"{inside} of {total} judged words in {constraint.language}"


def json_value(constraint: Constraint, text: str) -> str:
    return json_schema.problem(constraint.schema, text)


CHECKS: dict[str, Check] = {
    "words": counting(words, "words"),
    "sentences": counting(sentences, "sentences"),
    "paragraphs": counting(lambda c, text: len(paragraphs_of(text)), "paragraphs"),
    "bullets": counting(lambda c, text: len(_bullet.findall(_divider.sub("", text))), "bullets"),
    "items": counting(items, "numbered items"),
    "sections": counting(sections, "sections called {0.text}"),
    "parts": counting(parts, "parts"),
    "placeholders": counting(lambda c, text: len(set(_placeholder.findall(text))), "placeholders"),
    "highlights": counting(lambda c, text: len(_highlight.findall(text)), "highlights"),
    "capital_words": counting(lambda c, text: sum(len(w) > 1 and w.isupper() for w in _word.findall(text)), "words in capitals"),
    "keyword": counting(lambda c, text: len(phrase(c.text.strip()).findall(text)), "times {0.text}"),
    "letter": counting(lambda c, text: text.casefold().count(c.text.casefold()), "times the letter {0.text}"),
    "include": include,
    "exclude": exclude,
    "one_of": one_of,
    "starts_with": starts_with,
    "ends_with": ends_with,
    "paragraph_starts_with": paragraph_starts_with,
    "postscript": postscript,
    "title": title,
    "quoted": quoted,
    "uppercase": uppercase,
    "lowercase": lowercase,
    "no_comma": no_comma,
    "language": language,
    "json": json_value,
}
