r"""Plain numbers, compared exactly: the fast path of the math grader, decided without leaving the process.

`number` reads integers, decimals, fractions (1/2, \frac{1}{2}, 1\frac{1}{2}), percentages and powers of ten into a
Fraction; two such numbers are equal or they are not, with no rounding. `tidy` removes what says nothing about the value
(spacing commands, \left, $, a final stop). Everything else is left to symbolic.py.
Policy: 5% is 1/20 and never 5; 1,234 is one number; a unit of measure is ignored if only one side has one, and must be
the same if both do; 0.33 is not 1/3.
"""

from __future__ import annotations

import re
from fractions import Fraction

LARGEST_POWER = 400
_UNITS = (
    "mm cm dm m km in inch inches ft foot feet yd yard yards mile miles mi mg g kg lb lbs pound pounds oz ounce ounces "
    "ms s sec second seconds min minute minutes h hr hour hours day days week weeks month months year years "
    "ml l liter liters litre litres dollar dollars cent cents euro euros degree degrees unit units meter meters metre metres"
)
UNITS = frozenset(_UNITS.split())

_digits = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_decimal = rf"[-+]?(?:{_digits}(?:\.\d*)?|\.\d+)"
_plain = re.compile(rf"^({_decimal})$")
_fraction = re.compile(rf"^({_decimal})/({_decimal})$")
_latex_fraction = re.compile(rf"^([-+]?)(\d*)\\frac\{{({_decimal})\}}\{{({_decimal})\}}$")
_short_fraction = re.compile(r"\\frac(\d)(\d)(?!\d)|\\frac(\d)\{")
_scientific = re.compile(rf"^({_decimal})(?:[eE]|\\(?:times|cdot)10\^)\{{?([-+]?\d{{1,4}})\}}?$")
_unit = re.compile(
    r"(?P<value>.*?\d[\d}.)]*)(?:\s|~|\\[ ,;])*"
    r"(?:\\(?:text|mathrm|textrm|mbox)\{\s*(?P<latex>[A-Za-z ]+?)\.?\s*\}|(?P<word>[A-Za-z]{2,}))(?P<power>\^\{?[23]\}?)?$"
)


def tidy(text: str) -> str:
    """The same expression without dress: math delimiters, bold, spacing commands, synonyms of one command."""
    text = text.strip().strip("*").strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            text = text[len(opening) : -len(closing)].strip()
    text = text.replace("−", "-").replace("–", "-").replace("×", "\\times ").replace("·", "\\cdot ").replace("π", "\\pi ")
    text = text.replace("\\$", "").replace("$", "").replace("{,}", ",").replace("\\%", "%").replace("∞", "\\infty ")
    text = re.sub(r"\\(?:left|right|bigl?|bigr|Bigl?|Bigr)(?![a-zA-Z])", "", text)
    text = re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", text)
    text = re.sub(r"\\[!,;:]|\\ |~|\\q?quad(?![a-zA-Z])|\\displaystyle(?![a-zA-Z])", " ", text)
    text = _short_fraction.sub(lambda m: f"\\frac{{{m[1]}}}{{{m[2]}}}" if m[1] else f"\\frac{{{m[3]}}}{{", text)
    text = re.sub(r"\s+", " ", text).strip()
    return text[:-1].rstrip() if text.endswith(".") else text


def squeeze(text: str) -> str:
    """Tidied, and without any space that does not end a command or part two words or numbers."""
    text = tidy(text)
    text = re.sub(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])", "", text)
    return re.sub(r"(?<=\d) (?=[A-Za-z\\])|(?<=[A-Za-z]) (?=\d)", "", text) if "\\" not in text else text


def number(text: str) -> Fraction | None:
    """The exact value of a plain number, None for anything else."""
    text = tidy(text)
    mixed = re.match(r"^([-+]?)(\d+) (\d+)/(\d+)$", text)
    if mixed and int(mixed[4]):
        value = Fraction(int(mixed[2])) + Fraction(int(mixed[3]), int(mixed[4]))
        return -value if mixed[1] == "-" else value
    text = text.replace(" ", "") if not re.search(r"\d \d", text) else text
    text = text.removesuffix("^\\circ").removesuffix("^{\\circ}").removesuffix("°")
    if text.endswith("%"):
        value_of = number(text[:-1])
        return None if value_of is None else value_of / 100
    if match := _plain.match(text):
        return fraction(match[1])
    if match := _scientific.match(text):
        power = int(match[2])
        return fraction(match[1]) * Fraction(10) ** power if abs(power) <= LARGEST_POWER else None
    if match := _fraction.match(text):
        return ratio(match[1], match[2])
    if match := _latex_fraction.match(text):
        part = ratio(match[3], match[4])
        if part is None or (match[2] and part < 0):
            return None
        value = part + int(match[2] or 0)
        return -value if match[1] == "-" else value
    return None


def fraction(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").removesuffix("."))


def ratio(above: str, below: str) -> Fraction | None:
    return fraction(above) / fraction(below) if fraction(below) else None


def split_unit(text: str) -> tuple[str, str]:
    r"""`5 \text{ cm}` as (5, cm). The unit is empty where the text ends with no known unit."""
    match = _unit.match(tidy(text))
    if not match:
        return text, ""
    unit = " ".join((match["latex"] or match["word"]).lower().split())
    bare = unit.removeprefix("square ").removeprefix("cubic ").removeprefix("sq ")
    if bare not in UNITS or (match["word"] and len(unit) < 2):
        return text, ""
    power = (match["power"] or "").strip("^{}")
    return match["value"].strip(), unit + power


def without_units(reference: str, answer: str) -> tuple[str, str] | None:
    """Both without their units, None if the units contradict each other."""
    (reference_value, reference_unit), (answer_value, answer_unit) = split_unit(reference), split_unit(answer)
    if reference_unit and answer_unit and reference_unit.rstrip("s") != answer_unit.rstrip("s"):
        return None
    return reference_value, answer_value


def equal(reference: str, answer: str) -> bool | None:
    """True or False where plain text or plain numbers decide, None where they cannot."""
    if squeeze(reference) == squeeze(answer):
        return bool(squeeze(answer))
    values = number(reference), number(answer)
    if values[0] is not None and values[1] is not None:
        return values[0] == values[1]
    return None


def same(left: str, right: str) -> bool:
    """Whether two pieces of one text give the same answer; False where plain text cannot tell."""
    return equal(left, right) is True
