"""export: a model of a run, or any other, as a directory for others to load, with its model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from posttrain.cli.options import RUNS, Json, Runs, model_reference, stage_folder, stages_of
from posttrain.cli.show import print_json
from posttrain.core.errors import UserError
from posttrain.records.paths import StagePaths

Dtype = Literal["bf16", "fp16", "fp32"]


@dataclass(frozen=True)
class Chosen:
    """What is exported: a model's reference, and the run, stage and adapter it comes from where it comes from a run."""

    model: str
    base: str
    run: Path | None = None
    stage: str = ""
    adapter: Path | None = None
    """The stage's own adapter, which is folded into `model` already."""


def export(
    source: Annotated[
        str, typer.Argument(metavar="RUN/STAGE|MODEL", help="A stage of a run, a known name, a directory, or a hub id.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must not exist yet.")],
    dtype: Annotated[Dtype | None, typer.Option(help="Precision of the weights; as they are if not given.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="An adapter in PEFT's layout to fold in.")] = None,
    merge: Annotated[
        bool, typer.Option("--merge/--no-merge", help="Fold the adapter into the model, or write the adapter alone.")
    ] = True,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Write a model for others to load: adapters merged, cast, safetensors, tokenizer and a model card. All of it or nothing."""
    from posttrain.diagnosis.card import Exported, card, named
    from posttrain.diagnosis.load import load_run
    from posttrain.models.load import resolve
    from posttrain.pipeline.models import licence_of
    from posttrain.records.files import saving, write_atomic

    if out.exists():
        raise UserError(f"{out} is there already, and nothing is overwritten.", fix="Name a folder that does not exist yet.")
    chosen = _chosen(source, runs)
    model = resolve(chosen.model)
    given = _adapter(chosen, adapter, merge, model)
    alone = not merge
    with saving(out.absolute()) as folder:
        size = _write(model, folder, given, dtype, chosen.base if alone else None)
        about = Exported(
            title=f"{chosen.run.name}/{chosen.stage}" if chosen.run else Path(chosen.model).name,
            base=named(chosen.base),
            licence=licence_of(chosen.base),
            dtype=dtype or _precision(folder),
            adapter=alone,
            merged=adapter.name if adapter and merge else "",
        )
        run = load_run(chosen.run) if chosen.run else None
        write_atomic(folder / "README.md", card(about, run, chosen.stage))
    if as_json:
        print_json({"folder": str(out), "model": chosen.model, "base": chosen.base, "bytes": size, "licence": about.licence})
        return
    print(f"{out}: {'adapter' if alone else 'model'} of {size / 1e6:.1f} MB, with its model card in README.md")


def _chosen(text: str, runs: Path) -> Chosen:
    """A stage of a run where there is one of that name, else a model."""
    from posttrain.pipeline.references import artefact, is_run, run_stage
    from posttrain.pipeline.run import load_run as recipe_of
    from posttrain.records.summary import read_result

    if is_run(text):
        folder = run_stage(text, runs).directory
    elif (runs / text.split("/")[0] / "recipe.yaml").is_file() or _in_a_run(Path(text).expanduser()):
        folder = _last_model(stage_folder(text, runs), text, runs)
    else:
        from posttrain.pipeline.models import require_model

        reference = model_reference(text)
        require_model(reference)
        return Chosen(reference, reference)
    paths = StagePaths(folder)
    if not paths.manifest.is_file():
        raise UserError(f"stage {folder.name} is not finished.", fix=f"Finish it with: posttrain resume {folder.parent.name}")
    root = next(parent for parent in folder.parents if (parent / "recipe.yaml").is_file())
    recipe = recipe_of(root.name, root.parent)
    adapter = paths.adapter if "adapter" in read_result(paths).artefacts else None
    return Chosen(artefact(paths, "model"), recipe.model, root, folder.relative_to(root).as_posix(), adapter)


def _last_model(folder: Path, text: str, runs: Path) -> Path:
    """The stage itself where one was named; of a run, its last stage that wrote a model."""
    from posttrain.records.summary import read_result

    root = next((path for path in (Path(text).expanduser(), runs / text) if (path / "recipe.yaml").is_file()), None)
    if root is None:
        return folder
    return next((stage for stage in reversed(stages_of(root)) if "model" in read_result(StagePaths(stage)).artefacts), folder)


def _in_a_run(path: Path) -> bool:
    """A run's folder, or a stage's."""
    return (path / "recipe.yaml").is_file() or ((path / "config.yaml").is_file() and (path / "result.json").is_file())


def _adapter(chosen: Chosen, given: Path | None, merge: bool, model: Path) -> Any:
    """The adapter to fold in or to write alone (models.adapter_files.Adapter), if there is one."""
    from posttrain.models.adapter_files import read_adapter, require_base

    if given is not None:
        adapter = read_adapter(given.expanduser())
        require_base([adapter], model)
        return adapter
    if merge:
        return None
    if chosen.adapter is None:
        raise UserError(
            "--no-merge writes an adapter alone, and there is none here.", fix="Name one with --adapter, or leave it out."
        )
    return read_adapter(chosen.adapter)


def _write(model: Path, folder: Path, adapter: Any, dtype: str | None, alone: str | None) -> int:
    from posttrain.models.export import export_adapter, export_model

    if alone is None:
        return export_model(model, folder, dtype=dtype, adapter=adapter)
    assert adapter is not None  # _adapter refuses otherwise
    said = adapter.base
    there = adapter.folder / said
    base = str(there.resolve()) if said and there.is_dir() else said or alone
    return export_adapter(adapter, model, folder, base=base, dtype=dtype)


def _precision(folder: Path) -> str:
    """The precision of the first weight written, by safetensors' own name for it."""
    from safetensors import safe_open

    with safe_open(next(iter(sorted(folder.glob("*.safetensors")))), framework="np") as file:
        names = list(file.keys())
        return str(file.get_slice(names[0]).get_dtype()).lower()
