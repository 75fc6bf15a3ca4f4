r"""A second opinion on two mathematical expressions, by numbers: read each with our own small reader, evaluate, compare.

It shares no code with math-verify, whose known false accepts come from rounding to six places (1/2004! = 1/2006!) and
from reading less than was written ("1,2,\ldots,n" read as three numbers). Expressions are compared at five fixed points with
160 digits and a relative tolerance of 1e-110, which is more digits than an answer may write out, so that no decimal passes for
\pi; lists, sets, tuples, intervals, matrices, equations and inequalities part by part. `(x, y) = (1, 2)` and `x = 1, y = 2`
are values with names.
`equal` returns None where it cannot read one of the two. Fails on identities that hold only on a part of the line
beyond the points, and calls equations equal only when they differ by a constant factor.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath  # type: ignore[import-untyped]

from posttrain.graders.exact import split_unit, tidy
from posttrain.graders.reader import Expression, Unreadable, read

Node = Any  # Expression | Several | Relation | Matrix
POINTS = 5
DIGITS = 160
TOLERANCE = mpmath.mpf(10) ** -110
ZERO = mpmath.mpf(10) ** -115  # as good as zero beside numbers around 1


@dataclass(frozen=True)
class Several:
    """`{` a set, `` a bare list, `(` `[` with `)` `]` a tuple or interval, `u` a union. `names` are the variables that have
    the items as their values."""

    opening: str
    closing: str
    items: tuple[Node, ...]
    names: tuple[str, ...] = ()

    @property
    def ordered(self) -> bool:
        return self.opening in ("(", "[") or bool(self.names) or any(item == DOTS for item in self.items)


@dataclass(frozen=True)
class Relation:
    signs: tuple[str, ...]
    sides: tuple[Expression, ...]


@dataclass(frozen=True)
class Matrix:
    rows: tuple[tuple[Expression, ...], ...]


DOTS = "dots"
_signs = [
    ("\\not=", "≠"), ("\\neq", "≠"), ("\\ne", "≠"), ("\\leq", "<="), ("\\le", "<="), ("\\geq", ">="), ("\\ge", ">="),
    ("\\lt", "<"), ("\\gt", ">"), ("≤", "<="), ("≥", ">="),
]  # fmt: skip
_matrix = re.compile(r"^\\begin\{([pbB]?matrix)\}(.*)\\end\{\1\}$", re.S)
_member = re.compile(r"^[A-Za-z](?:_\{?\w+\}?)?\s*\\in(?![a-zA-Z])")
_thousands = re.compile(r",\d{3}(?!\d)")
_before_thousands = re.compile(r"(?<![\d,])\d{1,3}(?:,\d{3})*$")
_named = re.compile(r"^\(((?:[A-Za-z](?:_\{?\w+\}?)?)(?:\s*,\s*[A-Za-z](?:_\{?\w+\}?)?)+)\)\s*=\s*(\(.*\))$")
_assigned = re.compile(r"^(?:[A-Za-z]|\\[a-z]+)(?:_\{?\w+\}?)?(?:\([A-Za-z](?:,[A-Za-z])*\))?$")


NAMED_SETS = {
    "\\emptyset": Several("{", "}", ()),
    "\\mathbb{R}": Several("(", ")", (read("-\\infty"), read("\\infty"))),
}


def equal(reference: str, answer: str) -> bool | None:
    try:
        left, right = parse(split_unit(reference)[0]), parse(split_unit(answer)[0])
        return same(left, right)
    except Unreadable:
        return None


def parse(text: str) -> Node:
    text = tidy(text)
    if text in NAMED_SETS:
        return NAMED_SETS[text]
    if match := _named.match(text):
        values, names = parse(match[2]), tuple(match[1].replace(" ", "").split(","))
        if isinstance(values, Several) and values.opening == "(" and len(values.items) == len(set(names)):
            return Several("(", ")", values.items, names)
        raise Unreadable("a tuple of names without as many values")
    if match := _member.match(text):
        text = text[match.end() :].strip()
    if match := _matrix.match(text):
        rows = [row for row in re.split(r"\\\\", match[2]) if row.strip()]
        return Matrix(tuple(tuple(read(cell) for cell in row.split("&")) for row in rows))
    pieces = cut(text, "\\cup")
    if len(pieces) > 1:
        return Several("u", "u", tuple(parse(piece) for piece in pieces))
    text = text.replace("\\{", "⦃").replace("\\}", "⦄")
    pieces = cut(text, ",")
    if len(pieces) > 1:
        return with_names(Several("", "", tuple(item for piece in pieces for item in spread(piece))))
    if len(text) > 1 and text[0] in "([⦃" and text[-1] in ")]⦄" and closes(text) == len(text) - 1:
        inside = cut(text[1:-1], ",")
        if text[0] == "⦃" or len(inside) > 1:
            opening, closing = ("{", "}") if text[0] == "⦃" else (text[0], text[-1])
            return Several(opening, closing, tuple(item for piece in inside for item in spread(piece)))
    items = spread(text)
    return items[0] if len(items) == 1 else Several("", "", tuple(items))


def with_names(bare: Several) -> Several:
    """`x = 1, y = 2` as the values 1 and 2 with their names; `x = 1, x = 2` stays what it is, two values of one variable."""
    names, values = [], []
    for item in bare.items:
        if not isinstance(item, Relation) or item.signs != ("=",) or not _assigned.match(item.sides[0].text.replace(" ", "")):
            return bare
        names.append(item.sides[0].text.replace(" ", ""))
        values.append(item.sides[1])
    return Several("", "", tuple(values), tuple(names)) if len(set(names)) == len(names) else bare


def spread(text: str) -> list[Node]:
    r"""One item, or the two that a \pm stands for."""
    text = text.strip()
    if text in ("\\ldots", "\\dots", "\\cdots", "...", "…"):
        return [DOTS]
    if "\\pm" in text:
        return [one(text.replace("\\pm", sign)) for sign in ("+", "-")]
    return [one(text)]


def one(text: str) -> Node:
    if text and text[0] in "([⦃" and closes(text) == len(text) - 1 and len(cut(text[1:-1], ",")) > 1:
        return parse(text.replace("⦃", "\\{").replace("⦄", "\\}"))
    for command, sign in _signs:
        text = re.sub(re.escape(command) + r"(?![a-zA-Z])", f" {sign} ", text)
    parts = re.split(r"(<=|>=|≠|<|>|=)", text)
    if len(parts) == 1:
        return read(text)
    return Relation(tuple(parts[1::2]), tuple(read(side) for side in parts[::2]))


def cut(text: str, mark: str) -> list[str]:
    """Split at `mark` outside every bracket. A comma between digits belongs to the number (1,234)."""
    pieces, level, start, at = [], 0, 0, 0
    while at < len(text):
        level += {"(": 1, "[": 1, "{": 1, "⦃": 1, ")": -1, "]": -1, "}": -1, "⦄": -1}.get(text[at], 0)
        grouped = mark == "," and _thousands.match(text, at) and _before_thousands.search(text[start:at])
        if level == 0 and text.startswith(mark, at) and not grouped:
            pieces.append(text[start:at])
            start = at = at + len(mark)
        else:
            at += 1
    return [*pieces, text[start:]]


def closes(text: str) -> int:
    """Where the bracket that opens `text` closes."""
    level = 0
    for at, character in enumerate(text):
        level += {"(": 1, "[": 1, "{": 1, "⦃": 1, ")": -1, "]": -1, "}": -1, "⦄": -1}.get(character, 0)
        if level == 0:
            return at
    return -1


def same(left: Node, right: Node) -> bool:
    left, right = as_union(left), as_union(right)
    if left == DOTS or right == DOTS:
        return bool(left == right)
    if isinstance(left, Relation) != isinstance(right, Relation):
        relation, other = (left, right) if isinstance(left, Relation) else (right, left)
        if isinstance(other, Several):
            interval = as_interval(relation)
            return interval is not None and same(interval, other)
        return isinstance(other, Expression) and same_as_value(relation, other)
    if isinstance(left, Relation):
        return same_relation(left, right)
    if type(left) is not type(right):
        return False
    if isinstance(left, Matrix):
        shape = [len(row) for row in left.rows] == [len(row) for row in right.rows]
        return shape and all(same(a, b) for x, y in zip(left.rows, right.rows, strict=True) for a, b in zip(x, y, strict=True))
    if isinstance(left, Several):
        return same_items(left, right)
    return same_value(left, right)


def as_union(node: Node) -> Node:
    """`x < 1, x > 2` is what was meant by `x < 1 or x > 2`: a union of two intervals of one variable."""
    if not isinstance(node, Several) or node.opening or not node.items:
        return node
    if not all(isinstance(item, Relation) and "=" not in item.signs and "≠" not in item.signs for item in node.items):
        return node
    intervals = tuple(as_interval(item) for item in node.items)
    one_variable = len(frozenset().union(*(side.names for item in node.items for side in item.sides))) == 1
    return Several("u", "u", intervals) if one_variable and None not in intervals else node


def same_items(left: Several, right: Several) -> bool:
    if left.names and right.names and left.names != right.names:
        if set(left.names) != set(right.names):
            return False
        by_name = dict(zip(right.names, right.items, strict=True))
        return all(same(item, by_name[name]) for name, item in zip(left.names, left.items, strict=True))
    if bool(left.names) != bool(right.names) and {left.opening, right.opening} <= {"", "("}:
        pairs = zip(left.items, right.items, strict=False)
        return len(left.items) == len(right.items) and all(same(a, b) for a, b in pairs)
    brackets = {(s.opening, s.closing) for s in (left, right)} - {("", ""), ("{", "}")}
    plain = not brackets
    alike = plain or (left.opening, left.closing) == (right.opening, right.closing)
    if not alike or len(left.items) != len(right.items):
        return False
    if left.ordered or right.ordered:
        return all(same(a, b) for a, b in zip(left.items, right.items, strict=True))
    remaining = list(right.items)
    for item in left.items:
        match = next((other for other in remaining if same(item, other)), None)
        if match is None:
            return False
        remaining.remove(match)
    return True


def same_as_value(relation: Relation, value: Expression) -> bool:
    """`x = 5` gives 5, and so does `17 + 25 = 42` when every side of it is equal."""
    if set(relation.signs) != {"="}:
        return False
    sides = relation.sides
    if _assigned.match(sides[0].text.replace(" ", "")):
        sides = sides[1:]
    elif _assigned.match(sides[-1].text.replace(" ", "")):
        sides = sides[:-1]
    return all(same_value(side, value) for side in sides)


def same_relation(left: Relation, right: Relation) -> bool:
    if len(left.signs) > 1 or len(right.signs) > 1:
        intervals = as_interval(left), as_interval(right)
        return None not in intervals and same(*intervals)
    (sign,), (other,) = left.signs, right.signs
    flip = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "≠": "≠"}
    names = tuple(sorted(left.sides[0].names | left.sides[1].names | right.sides[0].names | right.sides[1].names))
    if sign == other == "=" and not names:
        return False
    ratios = []
    for point in points(names):
        a, b = difference(left, point), difference(right, point)
        if a is None or b is None:
            continue
        if near_zero(b) or near_zero(a):
            return False
        ratios.append(a / b)
    if len(ratios) < 2 or any(not close(ratio, ratios[0]) for ratio in ratios):
        return False
    if sign in ("=", "≠") or other in ("=", "≠"):
        return sign == other
    return other == (sign if mpmath.re(ratios[0]) > 0 else flip[sign])


def difference(relation: Relation, point: dict[str, Any]) -> Any:
    return value_at(lambda at: relation.sides[0].value(at) - relation.sides[1].value(at), point)


def as_interval(relation: Relation) -> Several | None:
    """`a < x <= b`, `x < b` or `b > x` as an interval, where the ends are constants."""
    signs, sides = relation.signs, relation.sides
    if all(sign in (">", ">=") for sign in signs):
        signs = tuple("<" + sign[1:] for sign in reversed(signs))
        sides = tuple(reversed(sides))
    if any(sign not in ("<", "<=") for sign in signs):
        return None
    infinity = read("\\infty")
    if len(signs) == 1:
        if _assigned.match(sides[0].text.strip()) and not sides[1].names:
            return Several("(", "]" if signs[0] == "<=" else ")", (read("-\\infty"), sides[1]))
        if _assigned.match(sides[1].text.strip()) and not sides[0].names:
            return Several("[" if signs[0] == "<=" else "(", ")", (sides[0], infinity))
        return None
    if len(signs) == 2 and _assigned.match(sides[1].text.strip()) and not (sides[0].names | sides[2].names):
        return Several("[" if signs[0] == "<=" else "(", "]" if signs[1] == "<=" else ")", (sides[0], sides[2]))
    return None


def same_value(left: Expression, right: Expression) -> bool:
    names = tuple(sorted(left.names | right.names))
    compared = 0
    for number, point in enumerate(points(names)):
        a, b = value_at(left.value, point), value_at(right.value, point)
        if a is None or b is None:
            if (a is None) != (b is None) and number < 3:
                return False
            continue
        if number >= 3 and (mpmath.im(a) != 0 or mpmath.im(b) != 0):
            continue  # below zero only real values are compared: log(x^2) = 2 log(x) where both are real
        if not close(a, b) and not both_zero(left, right, point, a, b):
            return False
        compared += 1
    if not compared:
        raise Unreadable("no point where both have a value")
    return True


def points(names: Sequence[str]) -> list[dict[str, Any]]:
    """Fixed values for the variables: three with all of them positive, two with all negative."""
    draw = random.Random(20_250_101)
    if not names:
        return [{}]
    return [
        {name: (1 if number < 3 else -1) * (mpmath.mpf(draw.randrange(300, 2700)) / 1000 + mpmath.mpf(1) / 7919) for name in names}
        for number in range(POINTS)
    ]


def value_at(evaluate: Callable[[dict[str, Any]], Any], point: dict[str, Any], digits: int = DIGITS) -> Any:
    with mpmath.workdps(digits):
        try:
            value = evaluate(point)
        except (ZeroDivisionError, ValueError, OverflowError):
            return None
        return None if mpmath.isnan(value) else value


def close(a: Any, b: Any) -> bool:
    if mpmath.isinf(a) or mpmath.isinf(b):
        return bool(a == b)
    with mpmath.workdps(DIGITS):
        return bool(abs(a - b) <= TOLERANCE * max(abs(a), abs(b)))


def near_zero(value: Any) -> bool:
    return bool(abs(value) < ZERO)


def both_zero(left: Expression, right: Expression, point: dict[str, Any], a: Any, b: Any) -> bool:
    """True zeros shrink with more digits (sin(pi)); small numbers do not (1/2004!)."""
    if not (near_zero(a) and near_zero(b)):
        return False
    finer = [value_at(side.value, point, 3 * DIGITS) for side in (left, right)]
    return all(
        fine is not None and (fine == 0 or abs(fine) < abs(rough) * ZERO or rough == 0)
        for fine, rough in zip(finer, (a, b), strict=True)
    )
