"""sandbox check, sandbox exec."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from posttrain.cli.options import Json
from posttrain.cli.show import harmless, print_json, table
from posttrain.core.errors import SandboxUnavailable, UserError

Backend = Annotated[
    str | None, typer.Option("--backend", help="bubblewrap or embedded; the best that works if not given.", show_default=False)
]


def check(backend: Backend = None, as_json: Json = False) -> None:
    """Try every way there is here to contain a program. Exit code 4 if none holds."""
    from posttrain.sandbox import backends

    if backend is not None and backend not in backends.SAFE:
        raise UserError(f"{backend!r} is not a sandbox backend.", fix=f"Backends: {', '.join(backends.SAFE)}.")
    found = [backends.tried(name) for name in ((backend,) if backend else backends.SAFE)]
    used = next((each.backend for each in found if each.backend is not None), None)
    if as_json:
        print_json({"backend": used.name if used else None, "tried": [dataclasses.asdict(each) for each in found]})
    else:
        for each in found:
            title = f"{each.name}: {each.backend.description if each.backend else each.missing or 'does not hold'}"
            rows = [(result.name, "contained" if result.contained else "ESCAPED", result.detail) for result in each.results]
            table(("a program that", "", "how it ended"), rows, title=title)
        print(f"in use: {used.name} ({used.description})" if used else "in use: none")
    if used is None:
        raise SandboxUnavailable("no way to contain a program passed its canaries.", fix=backends.FIX)


def exec_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A Python program.")],
    stdin: Annotated[Path | None, typer.Option("--stdin", metavar="F", help="What it reads from standard input.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds it may take.")] = 10.0,
    backend: Backend = None,
    as_json: Json = False,
) -> None:
    """Run one program in the sandbox and say what became of it. Exit code 0 whatever became of it."""
    from posttrain import sandbox

    try:
        limits = sandbox.Limits(wall_s=timeout)
    except ValueError as problem:
        raise UserError(f"--timeout: {problem}.", fix="Give a number of seconds.") from None
    found = sandbox.run(text_of(file), stdin=text_of(stdin) if stdin else "", limits=limits, backend=backend)
    if as_json:
        print_json({name: getattr(found, name) for name in ("status", "exit", "stdout", "stderr", "wall_s", "backend")})
        return
    for text in (found.stdout, found.stderr):
        if text:
            print(harmless(text), end="" if text.endswith("\n") else "\n")
    code = "" if found.exit is None else f", exit status {found.exit}"
    why = f": {harmless(found.explanation)}" if found.explanation else ""
    print(f"{found.status}{code}, {found.wall_s:.2f} s in {found.backend}{why}")


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        raise UserError(f"cannot be read: {problem.strerror}.", place=str(path), fix="Name a file that is there.") from None
    except UnicodeDecodeError:
        raise UserError("is not UTF-8 text.", place=str(path), fix="Save it as UTF-8.") from None
