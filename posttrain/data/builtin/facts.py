"""Facts that everybody knows, for passages that contradict them: question, statement, ways to write the right value, wrong ones."""

from __future__ import annotations

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo", "Russia": "Moscow",
    "Egypt": "Cairo", "Greece": "Athens", "Austria": "Vienna", "Poland": "Warsaw", "Portugal": "Lisbon", "Ireland": "Dublin",
    "Norway": "Oslo", "Sweden": "Stockholm", "Denmark": "Copenhagen", "Finland": "Helsinki", "Hungary": "Budapest",
    "Cuba": "Havana", "Peru": "Lima", "Kenya": "Nairobi", "England": "London", "Thailand": "Bangkok", "China": "Beijing",
    "Belgium": "Brussels", "Argentina": "Buenos Aires", "Iran": "Tehran", "Iraq": "Baghdad", "Canada": "Ottawa",
}  # fmt: skip
COUNTS: tuple[tuple[str, str, int], ...] = (
    ("How many days are in a week?", "A week has {} days.", 7),
    ("How many months are in a year?", "A year has {} months.", 12),
    ("How many hours are in a day?", "A day has {} hours.", 24),
    ("How many minutes are in an hour?", "An hour has {} minutes.", 60),
    ("How many seconds are in a minute?", "A minute has {} seconds.", 60),
    ("How many legs does a spider have?", "A spider has {} legs.", 8),
    ("How many legs does a dog have?", "A dog has {} legs.", 4),
    ("How many wheels does a bicycle have?", "A bicycle has {} wheels.", 2),
    ("How many sides does a triangle have?", "A triangle has {} sides.", 3),
    ("How many sides does a square have?", "A square has {} sides.", 4),
    ("How many letters are in the English alphabet?", "The English alphabet has {} letters.", 26),
    ("How many players of a soccer team are on the field?", "A soccer team has {} players on the field.", 11),
    ("How many years are in a century?", "A century has {} years.", 100),
    ("How many cents are in a dollar?", "A dollar has {} cents.", 100),
    ("How many eggs are in a dozen?", "A dozen is {} eggs.", 12),
    ("How many continents are there?", "There are {} continents.", 7),
)
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

Fact = tuple[str, str, tuple[str, ...], tuple[str, ...]]
"""Question, statement with a gap, ways to write the right value (the usual one first), wrong values."""


def capital(country: str) -> Fact:
    right = CAPITALS[country]
    wrong = tuple(other for other in CAPITALS.values() if other != right)
    return f"What is the capital of {country}?", f"The capital of {country} is {{}}.", (right,), wrong


def count(question: str, statement: str, value: int) -> Fact:
    written = (str(value), WORDS[value]) if value < len(WORDS) else (str(value),)
    return question, statement, written, tuple(str(value + change) for change in (-1, 1, 2, 3, 5))


FACTS: tuple[Fact, ...] = (*map(capital, CAPITALS), *(count(*each) for each in COUNTS))
