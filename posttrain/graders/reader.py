r"""A reader of the mathematics that final answers are made of: LaTeX or plain text to a function of its variables.

    sum     := product (("+" | "-") product)*
    product := power (("*" | "/" | nothing) power)*
    power   := base ("^" power)? "!"?

Bases: numbers, letters, \pi, e, i, brackets, |x|, \frac, \sqrt, \binom, \lfloor, \lceil and the usual functions, whose
argument without brackets reaches to the next sign or function. Read as the field reads final answers: \log is natural,
3\frac{1}{2} is three and a half, sin 30^\circ is in degrees, single letters are variables. What is not in this grammar is
Unreadable, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath  # type: ignore[import-untyped]

Value = Callable[[dict[str, Any]], Any]


class Unreadable(Exception):
    """Not in the grammar."""


@dataclass(frozen=True, eq=False)
class Expression:
    text: str
    value: Value
    names: frozenset[str]


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "cot": mpmath.cot, "sec": mpmath.sec, "csc": mpmath.csc,
    "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan, "sinh": mpmath.sinh, "cosh": mpmath.cosh,
    "tanh": mpmath.tanh, "ln": mpmath.log, "log": mpmath.log, "exp": mpmath.exp, "sqrt": mpmath.sqrt,
}  # fmt: skip
GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "kappa", "lambda", "mu",
    "nu", "xi", "rho", "sigma", "tau", "phi", "varphi", "chi", "psi", "omega", "Delta", "Gamma", "Omega", "Phi", "Sigma", "Theta",
}  # fmt: skip
ROUNDING: dict[str, Callable[[Any], Any]] = {"lfloor": mpmath.floor, "lceil": mpmath.ceil}
CLOSING = ("\\|", "\\rfloor", "\\rceil")
_token = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)|(?P<command>\\[a-zA-Z]+|\\\|)"
    r"|(?P<word>(?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|ln|log|exp|sqrt|pi)(?![a-zA-Z])|(?P<letter>[A-Za-z])|(?P<sign>\*\*|[-+*/^!()\[\]{}|_°%]))"
)
_roman = re.compile(r"\\(?:mathrm|mathbf|mathit|operatorname|text)\s*\{\s*([A-Za-z]+)\s*\}")
_degree = re.compile(r"\^\s*\{?\s*\\circ\s*\}?")


def read(text: str) -> Expression:
    """The whole of `text` as one expression, or Unreadable."""
    source = text
    text = _roman.sub(lambda m: f"\\{m[1]} " if m[1] in FUNCTIONS else (m[1] if len(m[1]) == 1 else "?"), text)
    text = _degree.sub("°", text)
    if text.rstrip().endswith("°"):
        text = text.rstrip()[:-1]
    tokens: list[str] = []
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _token.match(text, at)
        if not match:
            raise Unreadable(f"{text[at]!r} in {source!r}")
        tokens.append(match[0].strip())
        at = match.end()
    reader = Reader([t for t in tokens if t not in ("\\left", "\\right", "\\displaystyle")])
    try:
        value = reader.sum()
    except RecursionError:
        raise Unreadable("too deep") from None
    if reader.tokens:
        raise Unreadable(f"{reader.tokens[0]!r} in {source!r}")
    return Expression(source, value, frozenset(reader.names))


class Reader:
    """Tokens still to be read (`tokens`, consumed from the front) and the variables met."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.names: set[str] = set()

    def next(self, expected: str = "") -> str:
        if not self.tokens or (expected and self.tokens[0] != expected):
            raise Unreadable(f"expected {expected or 'more'}")
        return self.tokens.pop(0)

    def at(self, *tokens: str) -> bool:
        return bool(self.tokens) and self.tokens[0] in tokens

    def sum(self) -> Value:
        left = self.signed_product()
        while self.at("+", "-"):
            left = added(left, self.next(), self.signed_product())
        return left

    def signed_product(self) -> Value:
        if self.at("+", "-"):
            sign, inner = self.next(), self.signed_product()
            return (lambda point: -inner(point)) if sign == "-" else inner
        return self.product()

    def product(self) -> Value:
        left = self.power()
        while self.tokens:
            if self.at("*", "\\cdot", "\\times"):
                self.next()
                left = multiplied(left, self.signed_power())
            elif self.at("/", "\\div"):
                self.next()
                left = divided(left, self.signed_power())
            elif self.begins():
                left = multiplied(left, self.power())
            else:
                break
        return left

    def signed_power(self) -> Value:
        if self.at("-", "+"):
            sign, inner = self.next(), self.signed_power()
            return (lambda point: -inner(point)) if sign == "-" else inner
        return self.power()

    def begins(self) -> bool:
        """True if the next token starts a factor, so that nothing stands for a multiplication sign."""
        token = self.tokens[0]
        return token in ("(", "[", "{") or token[0].isalnum() or token[0] == "." or (token[0] == "\\" and token not in CLOSING)

    def power(self) -> Value:
        value = self.base()
        while self.at("!", "^", "**", "°", "%"):
            sign = self.next()
            if sign == "!":
                value = applied(mpmath.factorial, value)
            elif sign == "°":
                value = applied(lambda x: x * mpmath.pi / 180, value)
            elif sign == "%":
                value = applied(lambda x: x / 100, value)
            else:
                value = raised(value, self.exponent())
        return value

    def exponent(self) -> Value:
        if self.at("{"):
            return self.group("{", "}")
        return self.signed_power()

    def group(self, opening: str, closing: str) -> Value:
        self.next(opening)
        value = self.sum()
        self.next(closing)
        return value

    def base(self) -> Value:
        token = self.next()
        if token[0].isdigit() or token[0] == ".":
            return self.number(token)
        if token in ("(", "[", "{"):
            value = self.sum()
            self.next({"(": ")", "[": "]", "{": "}"}[token])
            return value
        if token == "|":
            value = self.sum()
            self.next("|")
            return applied(abs, value)
        name = token.removeprefix("\\")
        if name in ROUNDING:
            value = self.sum()
            self.next(f"\\r{name[1:]}")
            return applied(ROUNDING[name], value)
        if name in FUNCTIONS:
            return self.function(name)
        if token[0] == "\\" and name in ("frac", "cfrac"):
            return divided(self.group("{", "}"), self.group("{", "}"))
        if token == "\\binom":
            above, below = self.group("{", "}"), self.group("{", "}")
            return lambda point: mpmath.binomial(above(point), below(point))
        return self.name(token, name)

    def number(self, token: str) -> Value:
        digits = token.replace(",", "")
        if self.tokens[:1] == ["\\frac"] and digits.isdigit():
            whole, rest = digits, self.tokens[1:]
            plain = len(rest) >= 6 and rest[0] == rest[3] == "{" and rest[2] == rest[5] == "}" and (rest[1] + rest[4]).isdigit()
            if plain:
                del self.tokens[:7]
                return lambda point: mpmath.mpf(whole) + mpmath.mpf(rest[1]) / mpmath.mpf(rest[4])
        return lambda point: mpmath.mpf(digits)

    def function(self, name: str) -> Value:
        call, power, base = FUNCTIONS[name], None, None
        if name == "sqrt" and self.at("["):
            degree = self.group("[", "]")
            inside = self.group("{", "}")
            return lambda point: root(inside(point), degree(point))
        if self.at("_"):
            self.next()
            base = self.group("{", "}") if self.at("{") else self.base()
        if self.at("^"):
            self.next()
            power = self.exponent()
        argument = self.argument()
        value: Value = applied(call, argument)
        if base is not None:
            if name != "log":
                raise Unreadable(f"a subscript of {name}")
            value = divided(value, applied(mpmath.log, base))
        return raised(value, power) if power is not None else value

    def argument(self) -> Value:
        """A bracket, or without one the factors up to the next sign or function: sin 2x."""
        if self.at("(", "[", "{"):
            opening = self.tokens[0]
            return self.group(opening, {"(": ")", "[": "]", "{": "}"}[opening])
        value = self.power()
        while self.tokens and self.begins() and not self.at("(", "[") and self.tokens[0].removeprefix("\\") not in FUNCTIONS:
            if self.tokens[0] in ("\\cdot", "\\times", "\\div"):
                break
            value = multiplied(value, self.power())
        return value

    def name(self, token: str, name: str) -> Value:
        constant = {"pi": lambda point: +mpmath.pi, "infty": lambda point: mpmath.inf}.get(name)
        if constant and (token[0] == "\\" or name == "pi"):
            return constant
        if token == "e":
            return lambda point: +mpmath.e
        if token == "i":
            return lambda point: mpmath.mpc(0, 1)
        if not (token.isalpha() or (token[0] == "\\" and name in GREEK)):
            raise Unreadable(token)
        if self.at("_"):
            self.next()
            inside = [self.next()]
            while inside[0] == "{" and inside[-1] != "}":
                inside.append(self.next())
            name += "_" + "".join(inside).strip("{}")
        self.names.add(name)
        return lambda point: point[name]


def added(left: Value, sign: str, right: Value) -> Value:
    return (lambda point: left(point) + right(point)) if sign == "+" else (lambda point: left(point) - right(point))


def multiplied(left: Value, right: Value) -> Value:
    return lambda point: left(point) * right(point)


def divided(left: Value, right: Value) -> Value:
    return lambda point: left(point) / right(point)


def raised(left: Value, right: Value) -> Value:
    return lambda point: power(left(point), right(point))


def applied(function: Callable[[Any], Any], inner: Value) -> Value:
    return lambda point: function(inner(point))


def power(base: Any, exponent: Any) -> Any:
    return mpmath.power(base, exponent)


def root(inside: Any, degree: Any) -> Any:
    """The real root where there is one, as people write it: the cube root of -8 is -2."""
    if mpmath.im(inside) == 0 and inside < 0 and degree == int(degree) and int(degree) % 2:
        return -mpmath.root(-inside, int(degree))
    return mpmath.power(inside, 1 / mpmath.mpf(degree))
