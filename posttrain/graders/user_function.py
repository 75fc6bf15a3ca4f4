"""A grader of the user's own: `./my_graders.py:concise`, a function f(task, answer) -> float, bool or Grade, plain or async.

`answer` is the text the model wrote. A bool decides `passed`, a float only scores. It runs in a process that is killed
when it takes longer than its timeout; a crash, a hang, a wrong type and NaN are errors with an explanation, never 0. What
it prints goes nowhere. The process is for robustness, not a sandbox: the file is the user's own code.
"""

from __future__ import annotations

import ast
from dataclasses import asdict
from pathlib import Path

from posttrain.core.config import FunctionGrader
from posttrain.core.errors import UserError, did_you_mean
from posttrain.core.types import Grade, Task
from posttrain.graders.processes import CheckFailed, Pool


def locate(config: FunctionGrader, base: Path) -> tuple[Path, str]:
    """The file and the function's name, checked without running the file."""
    where, colon, name = config.path.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise UserError(f"grader path {config.path!r} does not name a function.", fix="Write it as ./my_graders.py:my_function.")
    file = (base / where).resolve()
    if not file.is_file():
        raise UserError(f"grader file {where} does not exist.", fix=f"Looked for {file}; paths are relative to the recipe.")
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except (SyntaxError, ValueError) as problem:
        raise UserError(f"is not valid Python: {problem}.", place=f"{file}:{getattr(problem, 'lineno', 1) or 1}") from None
    names, open_ended = bound_names(tree)
    if name not in names and not open_ended:
        raise UserError(
            f"has no function {name!r}.", place=str(file), fix=did_you_mean(name, names) if names else "It defines nothing."
        )
    return file, name


def bound_names(tree: ast.Module) -> tuple[set[str], bool]:
    """Names the module's body binds, and whether others may be (import *, or names bound in a nested block)."""
    names: set[str] = set()
    open_ended = False
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
            open_ended |= any(alias.name == "*" for alias in statement.names)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names |= {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
        elif not isinstance(statement, ast.Expr):
            open_ended = True
    return names, open_ended


def pool(config: FunctionGrader, base: Path) -> Pool:
    file, name = locate(config, base)
    return Pool(("posttrain.graders.user_code", "prepare", (str(file), name)), timeout_s=config.timeout_s)


async def grade(config: FunctionGrader, pool: Pool, task: Task, text: str) -> Grade:
    try:
        reply = await pool.ask({"task": asdict(task), "answer": text})
    except CheckFailed as problem:
        return Grade.error(f"{config.path} {problem}")
    if "complaint" in reply:
        return Grade.error(f"{config.path} {reply['complaint']}")
    return Grade(**reply["grade"])
