"""environments list, environments tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posttrain.cli.options import Json
from posttrain.cli.show import print_json, table
from posttrain.core.errors import UserError

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the environment: id=FrozenLake-v1. Repeatable.")
]


def list_environments(as_json: Json = False) -> None:
    """List the worlds a model can act in, with every setting."""
    from posttrain.pipeline.settings import ENVIRONMENTS, default_text, fields_of, help_of

    found: dict[str, Any] = {}
    for kind, config in ENVIRONMENTS.items():
        texts = help_of(config)
        settings = {
            name: {"help": texts.get(name, ""), "default": default_text(config, name).removeprefix("default ")}
            for name in fields_of(config)
            if name != "kind"
        }
        found[kind] = {"help": " ".join((config.__doc__ or "").split()), "settings": settings}
    if as_json:
        print_json(found)
        return
    table(("environment", "what it is"), [(kind, each["help"]) for kind, each in found.items()])


def tasks(
    kind: Annotated[str, typer.Argument(metavar="ENVIRONMENT", help="One whose tasks another package makes, such as gymnasium.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write, one task a line.")],
    split: Annotated[str, typer.Option("--split", help="train or test; no task is in both.")] = "train",
    count: Annotated[int, typer.Option("--count", min=1, help="How many tasks.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draw.")] = 0,
    set_: Set = None,
) -> None:
    """Write tasks for the environment of another package, which a recipe then names as a file."""
    from posttrain.data.tasks import write_tasks
    from posttrain.environments import adapters
    from posttrain.pipeline.settings import ENVIRONMENTS
    from posttrain.pipeline.tree import Section, nearest, scalar
    from posttrain.pipeline.validate import read_settings

    if kind not in adapters.ADAPTERS:
        near = nearest(kind, sorted(adapters.ADAPTERS))
        known = f"Did you mean {near}?" if near else f"Known: {', '.join(sorted(adapters.ADAPTERS))}."
        raise UserError(f"{kind!r} is no environment whose tasks are written.", fix=known)
    if split not in ("train", "test"):
        raise UserError(f"--split is {split!r}.", fix="Choose train or test.")
    section = Section("", "--set")
    section.put("kind", kind, "")
    for change in set_ or []:
        name, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"--set {change}: expected key=value.", fix="For example --set id=FrozenLake-v1.")
        section.put(name.strip(), scalar(value), f"--set {change}")
    config = read_settings(ENVIRONMENTS[kind], section, f"environment {kind!r}")
    written = write_tasks(out, adapters.tasks(config, split=split, count=count, seed=seed))
    print(f"{written} {split} tasks in {out}")
