r"""Plain numbers, compared exactly: the fast path of the math grader, decided without leaving the process.

`number` reads integers, decimals, fractions (1/2, \frac{1}{2}, 1\frac{1}{2}), percentages and powers of ten into a
Fraction; two such numbers are equal or they are not, with no rounding. `tidy` removes what says nothing about the value
(spacing commands, \left, $, a final stop). Everything else is left to symbolic.py.
Policy: 5% is 1/20 and never 5; 1,234 is one number and 1,5 are two; a unit of measure is ignored if only one side has one,
and must be the same or convertible if both do (units.py); 0.33 is not 1/3, 0.\overline{3} is; 101_2 is only itself.
"""

from __future__ import annotations

import re
from fractions import Fraction

from posttrain.graders import units

LARGEST_POWER = 400

_digits = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_decimal = rf"[-+]?(?:{_digits}(?:\.\d*)?|\.\d+)"
_plain = re.compile(rf"^({_decimal})$")
_fraction = re.compile(rf"^({_decimal})/({_decimal})$")
_latex_fraction = re.compile(rf"^([-+]?)(\d*)\\frac\{{({_decimal})\}}\{{({_decimal})\}}$")
_short_fraction = re.compile(r"\\frac(\d)(\d)(?!\d)|\\frac(\d)\{")
_scientific = re.compile(rf"^(?:({_decimal})(?:[eE]|\\(?:times|cdot)10\^|\*10\^)|([-+]?)10\^)\{{?([-+]?\d{{1,4}})\}}?$")
_repeating = re.compile(r"^([-+]?)(\d*)\.(\d*)\\(?:overline|bar)\{?(\d+)\}?$")
_NO_BRACES = str.maketrans("", "", "{} ")
_in_base = re.compile(r"^[-+]?\d[0-9A-Fa-f]*_\{?\d{1,2}\}?$")
_unit = re.compile(
    r"(?P<value>.*?\d[\d}.)]*)(?:\s|~|\\[ ,;])*"
    r"(?:\\(?:text|mathrm|textrm|mbox)\{\s*(?P<latex>[A-Za-z /.²³]+?)\s*\}|(?P<word>[A-Za-z][A-Za-z /.]*|[¢€]))"
    r"(?P<power>\^\{?[23]\}?|[²³])?$"
)
_degrees = re.compile(
    r"^(?P<value>.*\d[\d}.)]*)\s*(?P<unit>\^\s*\{?\s*\\circ\s*\}?|°)\s*(?:\\(?:text|mathrm)\{\s*)?(?P<scale>[CF]?)\s*\}?$"
)
_money = re.compile(
    r"^\s*(?P<sign>[-+]?)\s*(?P<unit>\\\$|\$|€|£|\\pounds(?![a-zA-Z])|\\euro(?![a-zA-Z]))\s*(?P<value>[-+]?[\d.,]+)(?P<rest>.*)$",
    re.S,
)
_whole_text = re.compile(r"^\\(?:text|textbf|mbox)\{\s*([-+]?\d[^{}]*)\}$")


def tidy(text: str) -> str:
    """The same expression without dress: math delimiters, bold, spacing commands, synonyms of one command."""
    text = text.strip().strip("*").strip()
    if inside := _whole_text.match(text):
        text = inside[1].strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            text = text[len(opening) : -len(closing)].strip()
    text = text.replace("−", "-").replace("–", "-").replace("×", "\\times ").replace("·", "\\cdot ").replace("π", "\\pi ")
    text = text.replace("\\$", "").replace("$", "").replace("{,}", ",").replace("\\%", "%").replace("∞", "\\infty ")
    text = text.replace("\\varnothing", "\\emptyset").replace("∅", "\\emptyset ").replace("\\{\\}", "\\emptyset")
    text = re.sub(r"(?<=\d)\\[,;!](?=\d{3}(?!\d))", "", text)  # 1\,000 is a thousand
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
        power = int(match[3])
        front = fraction(match[1] or f"{match[2]}1")
        return front * Fraction(10) ** power if abs(power) <= LARGEST_POWER else None
    if match := _repeating.match(text):
        return repeating(*match.groups())
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


def repeating(sign: str, whole: str, fixed: str, period: str) -> Fraction:
    r"""0.1\overline{6}: the fixed digits, and the period over as many nines."""
    value = Fraction(int((whole or "0") + fixed), 10 ** len(fixed))
    value += Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
    return -value if sign == "-" else value


def split_unit(text: str, letters: bool = False) -> tuple[str, str]:
    r"""`5 \text{ cm}` as (5, cm). The unit is empty where the text ends with no known unit.

    A lone letter may be a variable, so `5 m` has a unit only where `letters` says so.
    """
    if (money := _money.match(text.strip())) and "$" not in money["rest"]:
        unit = {"\\$": "dollar", "$": "dollar", "€": "euro", "\\euro": "euro"}.get(money["unit"], "£")
        value, other = split_unit(money["sign"] + money["value"] + money["rest"])
        return (value, unit) if other in ("", unit, f"{unit}s") else (text, "")
    text = tidy(text)
    if degrees := _degrees.match(text):
        return degrees["value"].strip(), "°" + degrees["scale"].lower()
    match = _unit.match(text)
    if not match:
        return text, ""
    unit = " ".join((match["latex"] or match["word"]).lower().split())
    unit += (match["power"] or "").replace("{", "").replace("}", "").replace("²", "^2").replace("³", "^3")
    if units.read(unit) is None or (not letters and match["word"] and len(match["word"].strip()) == 1 and unit not in "¢€"):
        return text, ""
    return match["value"].strip(), unit


def without_units(reference: str, answer: str) -> tuple[str, str] | None:
    """Both without their units, None if the units contradict each other."""
    (reference_value, reference_unit), (answer_value, answer_unit) = split_unit(reference), split_unit(answer)
    if reference_unit and not answer_unit:
        answer_value, answer_unit = split_unit(answer, letters=True)
    if answer_unit and not reference_unit:
        reference_value, reference_unit = split_unit(reference, letters=True)
    if reference_unit and answer_unit:
        left, right = units.read(reference_unit), units.read(answer_unit)
        if left is None or right is None or left.measures != right.measures:
            return None
        if left.factor != right.factor:
            values = number(reference_value), number(answer_value)
            if values[0] is None or values[1] is None:
                return None
            return str(values[0] * left.factor), str(values[1] * right.factor)
    return reference_value, answer_value


def equal(reference: str, answer: str) -> bool | None:
    """True or False where plain text or plain numbers decide, None where they cannot."""
    if squeeze(reference) == squeeze(answer):
        return bool(squeeze(answer))
    values = number(reference), number(answer)
    if values[0] is not None and values[1] is not None:
        return values[0] == values[1]
    if any(_in_base.match(tidy(side).replace(" ", "")) for side in (reference, answer)):
        return tidy(reference).translate(_NO_BRACES) == tidy(answer).translate(_NO_BRACES)
    return None


def same(left: str, right: str) -> bool:
    """Whether two pieces of one text give the same answer; False where plain text cannot tell."""
    return equal(left, right) is True
