"""The commands. Each lives in a module that loads what it needs when it is called."""

from __future__ import annotations

from typing import Annotated

import typer

from posttrain.cli import calibrate, environments, export, grading, label, models, records, runs, sandbox, serve

app = typer.Typer(
    name="posttrain",
    help="Declare a post-training recipe, run it, know whether it worked and what to fix next.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from posttrain import __version__

        print(f"posttrain {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error. May stand anywhere.")] = False,
) -> None:
    """`--debug` is taken by main before Typer sees it; it is declared here for the help."""


RUN, LOOK, MODEL, GRADE = "Run recipes", "Look at runs", "Use models", "Grade answers"

app.command("run", rich_help_panel=RUN)(runs.run)
app.command("check", rich_help_panel=RUN)(runs.check)
app.command("resume", rich_help_panel=RUN)(runs.resume)
app.command("recipes", rich_help_panel=RUN)(runs.recipes)
app.command("schema", rich_help_panel=RUN)(runs.schema)
app.command("report", rich_help_panel=LOOK)(records.report)
app.command("compare", rich_help_panel=LOOK)(records.compare)
app.command("diagnose", rich_help_panel=LOOK)(records.diagnose)
app.command("label", rich_help_panel=LOOK)(label.label)
app.command("eval", rich_help_panel=MODEL)(models.evaluate)
app.command("chat", rich_help_panel=MODEL)(models.chat)
app.command("export", rich_help_panel=MODEL)(export.export)
app.command("serve", rich_help_panel=MODEL)(serve.serve)
app.command("grade", rich_help_panel=GRADE)(grading.grade)
graders = typer.Typer(help="What can judge an answer, and whether it can be trusted.", no_args_is_help=True)
graders.command("list")(grading.list_graders)
graders.command("test")(grading.test)
graders.command("calibrate")(calibrate.calibrate)
app.add_typer(graders, name="graders", rich_help_panel=GRADE)
worlds = typer.Typer(help="Worlds a model acts in over several turns, and their tasks.", no_args_is_help=True)
worlds.command("list")(environments.list_environments)
worlds.command("tasks")(environments.tasks)
app.add_typer(worlds, name="environments", rich_help_panel=GRADE)
boxes = typer.Typer(help="Where model-written code runs, and whether it holds.", no_args_is_help=True)
boxes.command("check")(sandbox.check)
boxes.command("exec")(sandbox.exec_)
app.add_typer(boxes, name="sandbox", rich_help_panel=GRADE)
