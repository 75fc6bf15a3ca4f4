r"""Units of measure that answers are written with: one name for each, what they measure, and how many of the basic one they are.

`read("km/h")` and `read("kilometers per hour")` are the same unit; `read("cm")` and `read("m")` measure the same thing and can be
converted, exactly, because factors are fractions. Degrees of temperature have no common zero and are never converted.
Not a system of units: a product of two units or a unit with a prefix that is not listed is not read, and then counts as words.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Unit:
    """`measures` is a kind of quantity such as `length` or `length/time`; `factor` how many basic units of it one is."""

    measures: str
    factor: Fraction


_TABLE: dict[str, dict[str, str]] = {
    "length": {
        "1/1000": "mm millimeter millimetre",
        "1/100": "cm centimeter centimetre",
        "1/10": "dm decimeter decimetre",
        "1": "m meter metre",
        "1000": "km kilometer kilometre",
        "127/5000": "in inch inches",
        "381/1250": "ft foot feet",
        "1143/1250": "yd yard",
        "201168/125": "mi mile",
    },
    "mass": {
        "1/1000": "mg milligram",
        "1": "g gram",
        "1000": "kg kilogram",
        "1000000": "t ton tonne",
        "45359237/100000": "lb pound",
        "45359237/1600000": "oz ounce",
    },
    "time": {
        "1/1000": "ms millisecond",
        "1": "s sec second",
        "60": "min minute",
        "3600": "h hr hour",
        "86400": "day",
        "604800": "week",
    },
    "calendar": {"1": "month", "12": "year yr"},
    "volume": {"1/1000": "ml milliliter millilitre", "1": "l liter litre"},
    "dollars": {"1/100": "cent ¢", "1": "dollar usd"},
    "euros": {"1": "euro eur €"},
    "pounds sterling": {"1": "£ gbp"},
    "angle": {"1": "degree deg ° ^\\circ ^{\\circ}"},
    "celsius": {"1": "°c ^\\circc ^{\\circ}c celsius"},
    "fahrenheit": {"1": "°f ^\\circf ^{\\circ}f fahrenheit"},
    "units": {"1": "unit"},
}
_PREFIXES = {"square ": 2, "sq ": 2, "sq. ": 2, "cubic ": 3, "cu ": 3}
_SHORT = {"mph": "mi/h", "kph": "km/h", "kmh": "km/h"}

NAMES: dict[str, Unit] = {
    spelling: Unit(measures, Fraction(factor))
    for measures, units in _TABLE.items()
    for factor, words in units.items()
    for word in words.split()
    for spelling in (word, f"{word}s")
    if not (spelling == "ms" and measures == "length")  # "ms" is milliseconds, not several metres
}


def read(text: str) -> Unit | None:
    """The unit a text names (`cm^2`, `square feet`, `m/s`, `miles per hour`), None if it names none that is known."""
    text = " ".join(text.lower().replace(" per ", "/").split())
    text = _SHORT.get(text, text)
    above, slash, below = text.partition("/")
    if slash:
        top, bottom = read(above.strip()), read(below.strip())
        if top is None or bottom is None:
            return None
        return Unit(f"{top.measures}/{bottom.measures}", top.factor / bottom.factor)
    power = 1
    for prefix, value in _PREFIXES.items():
        if text.startswith(prefix):
            text, power = text.removeprefix(prefix), value
    for mark, value in (("^{2}", 2), ("^2", 2), ("²", 2), ("^{3}", 3), ("^3", 3), ("³", 3)):
        if text.endswith(mark) and power == 1:
            text, power = text.removesuffix(mark).strip(), value
    unit = NAMES.get(text.strip().removesuffix("."))
    if unit is None or power == 1:
        return unit
    return Unit(f"{unit.measures}^{power}", unit.factor**power) if unit.measures == "length" else None
