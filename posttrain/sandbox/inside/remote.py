"""The tester's view of the worker: functions, modules and objects that live over there.

A question goes out, one answer with its number must come back. What comes back is plain (values.py), an exception, which is
raised here as the nearest built-in class or as a class of the same name made here, or the number of an object over there.
An object never equals a plain value, whatever it says of itself. Assumes that tests ask about results. Callbacks, classes derived
from those over there, and changing an argument in place have no form here: such a test fails and says `Unsupported`.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import sys
import types

from posttrain.sandbox.inside.values import Channel, Gone, Unsupported, form, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any


class Failed(Exception):
    """What the program raised, where it is no built-in exception."""


class Link:
    """Asks the worker. `objects` allows things that stay over there; function tests do without."""

    def __init__(self, channel: Channel, *, objects: bool) -> None:
        self.channel, self.objects, self.asked = channel, objects, 0
        self.exceptions: dict[str, type[BaseException]] = {}

    def loaded(self) -> str | None:
        """Why the program could not be loaded, None if it could. Raises Gone if it ended meanwhile."""
        message = self.channel.read()
        if type(message) is not dict or set(message) != {"loaded"}:
            raise Gone("the program spoke before it was asked")
        return None if message["loaded"] is None else str(message["loaded"])

    def ask(self, operation: str, *given: Any, **named: Any) -> Any:
        self.asked += 1
        question = {"n": self.asked, "op": operation, "args": form(given, self.lend), "named": form(named, self.lend)}
        self.channel.write(question)
        answer = self.channel.read()
        if type(answer) is not dict or answer.get("n") != self.asked or type(answer.get("n")) is not int:
            raise Gone("the program answered another question")
        try:
            if "raised" in answer:
                error = self.error(list(answer["raised"]["mro"]), str(answer["raised"]["text"]))
            elif "unsupported" in answer:
                error = Unsupported(f"the program's result: {answer['unsupported']}")
            else:
                return value(answer["value"], self.lent)
        except (KeyError, TypeError, ValueError, RecursionError, OverflowError) as problem:
            raise Unsupported(f"an answer that is no value: {problem}") from None
        raise error

    def lend(self, item: Any) -> list[Any]:
        if isinstance(item, Remote) and item._link is self:
            return ["h", item._number]
        if isinstance(item, Named):
            return ["name", item.name]
        if isinstance(item, RemoteModule):
            return ["h", item.__dict__["_number"]]
        raise Unsupported(f"{type(item).__name__} cannot be handed to the program: it is not a plain value")

    def lent(self, given: list[Any]) -> Any:
        if not self.objects or given[0] != "h":
            raise Unsupported("an answer that is no plain value")
        _, number, kind, name, mro = given
        if type(number) is not int or type(name) is not str:
            raise Unsupported("an answer that is no value")
        if kind == "exception":
            return self.exception_class(list(mro))
        return Remote(self, number, name)

    def error(self, mro: Sequence[str], text: str) -> BaseException:
        if not self.objects:
            kind = next((found for name in mro if (found := builtin_exception(name))), Failed)
            return kind(text)
        return self.exception_class(list(mro))(text)

    def exception_class(self, mro: Sequence[str]) -> type[BaseException]:
        """A class here for a class of exceptions there: the built-in one, or one of the same name and ancestry, always the same."""
        if not mro or "." not in mro[0]:
            return builtin_exception(mro[0]) if mro and builtin_exception(mro[0]) else Failed  # type: ignore[return-value]
        name = str(mro[0])
        if name not in self.exceptions:
            parent = self.exception_class(mro[1:])
            self.exceptions[name] = type(name.rpartition(".")[2], (parent,), {})
        return self.exceptions[name]


def builtin_exception(name: str) -> type[BaseException] | None:
    """An ordinary built-in exception by name: none that would end the tester itself."""
    found = getattr(builtins, name, None) if type(name) is str else None
    ordinary = isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, UnicodeError | BaseExceptionGroup)
    return found if ordinary else None


class Named:
    """A function over there by its name: what function tests call. Its results are plain."""

    def __init__(self, link: Link, name: str) -> None:
        self.link, self.name, self.__name__ = link, name, name

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self.link.ask("call", self, *given, **named)


class Remote:
    """An object over there. Its own methods and operators run there; what they give is a claim, like any result."""

    def __init__(self, link: Link, number: int, name: str) -> None:
        self.__dict__.update(_link=link, _number=number, _name=name)

    def __getattr__(self, name: str) -> Any:
        return self._link.ask("getattr", self, name)

    def __setattr__(self, name: str, item: Any) -> None:
        self._link.ask("setattr", self, name, item)

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._link.ask("call", self, *given, **named)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._link.ask("eq", self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return int(self._link.ask("hash", self))

    def __bool__(self) -> bool:
        return self._link.ask("bool", self) is True

    def __iter__(self) -> Iterator[Any]:
        return RemoteIterator(self._link, self._link.ask("iter", self))

    def __repr__(self) -> str:
        return str(self._link.ask("repr", self))

    def __str__(self) -> str:
        return str(self._link.ask("str", self))

    def __instancecheck__(self, item: object) -> bool:
        return isinstance(item, Remote) and self._link.ask("isinstance", item, self) is True

    def __enter__(self) -> Any:
        return self._link.ask("enter", self)

    def __exit__(self, *_: object) -> None:
        self._link.ask("exit", self)


def operation(name: str, *, remote_only: bool = False) -> Any:
    """A method of Remote that is done over there. Comparisons only with another object from there: a plain value would have
    to take the object's word for it."""

    def method(self: Remote, *given: Any) -> Any:
        if remote_only and not all(isinstance(item, Remote) for item in given):
            return NotImplemented
        return self._link.ask(name, self, *given)

    return method


for _name in "len int float abs round add sub mul truediv floordiv mod pow neg xor matmul getitem setitem delitem contains".split():
    setattr(Remote, f"__{_name}__", operation(_name))
for _name in ("and", "or"):
    setattr(Remote, f"__{_name}__", operation(f"{_name}_"))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Remote, f"__{_name}__", operation(_name, remote_only=True))


class RemoteIterator:
    def __init__(self, link: Link, iterator: Any) -> None:
        self.link, self.iterator = link, iterator

    def __iter__(self) -> RemoteIterator:
        return self

    def __next__(self) -> Any:
        return self.link.ask("next", self.iterator)


class RemoteModule(types.ModuleType):
    """A module over there: `from module import name` asks for the name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.__dict__["_link"].ask("getattr", self, name)


class Finder:
    """Imports of the named top-level modules go to the worker; the tester never loads their files."""

    def __init__(self, link: Link, names: Sequence[str]) -> None:
        self.link, self.names = link, frozenset(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = RemoteModule(spec.name)
        found = self.link.ask("import", spec.name)
        module.__dict__.update(_link=self.link, _number=found._number)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        module.__path__ = []


def stand_in(link: Link, names: Sequence[str]) -> None:
    sys.meta_path.insert(0, Finder(link, names))
