"""The architecture, asserted: who may import whom, what stays small, what stays true in the README.

The table is the one in CONTRIBUTING.md. Every allowance below names its reason, and one that is no longer needed fails.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import itertools
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import posttrain
from posttrain.core import config

ROOT = Path(posttrain.__file__).resolve().parent.parent
PACKAGE = ROOT / "posttrain"

# What each part may import of ours, anywhere in its files, function bodies included.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "algorithms": set(),
    "data": {"core"},
    "chat": {"core"},
    "records": {"core"},
    "models": {"core"},
    "environments": {"core", "sandbox"},
    "sandbox": {"core"},
    "graders": {"core", "chat", "sandbox"},
    "generation": {"core", "chat", "models"},
    "rollouts": {"core", "chat"},
    "synthesis": {"core", "chat", "rollouts"},
    "monitors": {"core"},
    "training": {"core", "algorithms", "models", "records"},
    "serving": {"core", "chat", "models", "generation"},
    "evaluation": {"core", "data", "rollouts"},
    "diagnosis": {"core", "records"},
    "pipeline": {"core", "data", "records"},
    "cli": {"core", "pipeline", "records", "diagnosis"},  # what imports no torch
}
MAY_IMPORT["stages"] = set(MAY_IMPORT) - {"pipeline", "cli"}
MAY_IMPORT["api"] = MAY_IMPORT["stages"] | {"stages"}  # reached on first use only, through posttrain.__getattr__

# What the parts above may import besides, but only inside a function: `check` and `--help` must not wait for torch.
MAY_IMPORT_LAZILY: dict[str, set[str]] = {
    "pipeline": {"stages", "chat", "graders", "diagnosis", "environments"},  # check makes an environment's factory, no episode
    "cli": set(MAY_IMPORT) - {"cli"},
    "api": {"cli"},  # the same progress bar
}

# Third-party packages that take long to import, and the parts with leaf modules that may import them at their top.
HEAVY = {"torch", "transformers", "peft", "pyarrow", "matplotlib", "math_verify", "gguf", "datasets", "datasketch"}
MAY_BE_HEAVY = {
    "algorithms": {"torch"},
    "data": {"pyarrow"},
    "records": {"pyarrow"},
    "diagnosis": {"matplotlib"},
    "graders": {"math_verify"},
    "models": {"torch", "transformers", "gguf"},
    "generation": {"torch", "transformers"},
    "training": {"torch", "transformers"},
    "stages": {"torch"},
}

LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

# The borders where bad data and broken worlds become recorded values (rollout, grader, stage, reader, command line).
BROAD_EXCEPTS: dict[str, str] = {
    "cli/main.py": "the last border: a bug becomes one line and exit code 1, in full with --debug",
    "environments/adapters/bfcl.py": "a simulated service given whatever a model writes: what it raises is its answer",
    "environments/adapters/reasoning_gym.py": "a scorer of the package: what it raises is an error grade, or refuses the data set",
    "generation/native/engine.py": "the engine's own task: the error has gone to every caller that waits for a completion",
    "graders/child.py": "inside a grader's process: the user's file is loaded and called here",
    "graders/in_process.py": "a user's function called in this process",
    "graders/processes.py": "a grader's process died, hung or said nonsense: this check's failure, not the pool's",
    "rollouts/collect.py": "a grader that raises gives an error grade",
    "rollouts/environment.py": "an environment that raises or hangs makes a failed rollout",
    "sandbox/inside/program.py": "inside the sandbox: whatever a model's program raises is how it ended",
    "sandbox/inside/start.py": "inside the sandbox: why the walls do not stand is said to the supervisor, and the process ends",
    "sandbox/inside/tester.py": "inside the sandbox: a program's answers can make a test raise anything, which fails the test",
    "sandbox/inside/worker.py": "inside the sandbox: whatever a model's function raises is its answer",
    "sandbox/pool.py": "carried to whoever waits for this job",
    "stages/parts.py": "carried from the thread of an event loop to the caller, who raises it",
}

# Settings that no other part reads, because their whole effect is in their own class.
SELF_CONTAINED = {"LoraConfig.allow_high_rank": "lets a rank pass the check of its own class"}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part(path: Path) -> str:
    """`data` for posttrain/data/read.py, `api` for posttrain/api.py, "" for posttrain/__init__.py."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py").removeprefix("__init__")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@dataclasses.dataclass(frozen=True)
class Import:
    path: Path
    line: int
    module: str
    lazy: bool

    def __str__(self) -> str:
        return f"{relative(self.path)}:{self.line} imports {self.module}{' in a function' if self.lazy else ''}"


def imports(path: Path) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, lazy: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(path, node.lineno, alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}:{node.lineno} is a relative import; write the whole name"
            if node.module == "posttrain":  # `from posttrain import data` names a part
                found.extend(Import(path, node.lineno, f"posttrain.{alias.name}", lazy) for alias in node.names)
            else:
                found.append(Import(path, node.lineno, node.module or "", lazy))
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(parsed(path), False)
    return found


def ours(found: Import) -> str | None:
    """The part an import of ours goes to, None for other packages."""
    names = found.module.split(".")
    if names[0] != "posttrain":
        return None
    return names[1] if len(names) > 1 else ""


def all_imports() -> Iterator[Import]:
    for path in files():
        yield from imports(path)


# ------------------------------------------------------------------------------------------------ who imports whom


def test_every_part_is_in_the_table() -> None:
    assert {part(path) for path in files()} - {""} == set(MAY_IMPORT)


def test_parts_import_only_what_the_table_allows() -> None:
    wrong = []
    for found in all_imports():
        here, there = part(found.path), ours(found)
        if not there or not here or there in {here, "__version__"}:
            continue
        allowed = MAY_IMPORT[here] | (MAY_IMPORT_LAZILY.get(here, set()) if found.lazy else set())
        if there not in allowed:
            wrong.append(f"{found}: {here} may import {sorted(allowed)}")
    assert not wrong, "\n".join(wrong)


def test_parts_have_no_cycle() -> None:
    """Counting lazy imports too: a cycle hidden in function bodies is still one. `cli` and `api` stand above all."""
    edges = {here: set[str]() for here in MAY_IMPORT}
    for found in all_imports():
        here, there = part(found.path), ours(found)
        if here and there in edges and there != here:
            edges[here].add(there)
    while edges:
        leaves = {here for here, needs in edges.items() if not needs & set(edges)}
        assert leaves, f"a cycle among {sorted(edges)}"
        edges = {here: needs for here, needs in edges.items() if here not in leaves}


def test_core_is_standard_library_only_and_algorithms_know_torch_only() -> None:
    standard = set(sys.stdlib_module_names) | {"posttrain"}
    allowed = {"core": standard, "algorithms": standard | {"torch"}}
    wrong = [
        str(found)
        for found in all_imports()
        if part(found.path) in allowed and found.module.split(".")[0] not in allowed[part(found.path)]
    ]
    assert not wrong, "\n".join(wrong)


def test_heavy_packages_are_imported_late() -> None:
    wrong = [
        str(found)
        for found in all_imports()
        if not found.lazy
        and (package := found.module.split(".")[0]) in HEAVY
        and package not in MAY_BE_HEAVY.get(part(found.path), set())
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_imports() -> None:
    """In a fresh process, so that none leans on what another test imported. An adapter may wait for the package it adapts."""
    names = [module.name for module in pkgutil.walk_packages([str(PACKAGE)], "posttrain.") if not module.name.endswith("__main__")]
    assert len(names) > 50
    code = f"""
import importlib
for name in {names!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "reasoning_gym" or not name.startswith("posttrain.environments.adapters."):
            raise
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import posttrain",
        "import posttrain.cli",
        "import posttrain.pipeline.check",
        "import posttrain.diagnosis",
        "import posttrain.monitors",
        "import posttrain.records",
        "import posttrain.core.config",
    ],
)
def test_light_parts_import_no_torch(statement: str) -> None:
    code = f"{statement}\nimport sys\nheavy = {HEAVY!r} & sys.modules.keys()\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_diagnosis_and_monitors_never_name_torch() -> None:
    wrong = [
        str(found)
        for found in all_imports()
        if part(found.path) in {"diagnosis", "monitors", "records", "data", "core"} and found.module.split(".")[0] == "torch"
    ]
    assert not wrong, "\n".join(wrong)


# ------------------------------------------------------------------------------------------------ small and honest


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function's name and its length in lines, decorators not counted."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{relative(path)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_files_are_small() -> None:
    long = {relative(path) for path in files() if len(path.read_text(encoding="utf-8").splitlines()) > 400}
    assert long == set(LONG_FILES), "over 400 lines, or allowed without need"


def test_functions_are_small() -> None:
    long = {name for path in files() for name, length in functions(path) if length > 60}
    assert long == set(LONG_FUNCTIONS), "over 60 lines, or allowed without need"


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    """Catches all exceptions and does not end by raising again, as a clean-up does."""
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    broad = any(node is None or (isinstance(node, ast.Name) and node.id in {"Exception", "BaseException"}) for node in caught)
    return broad and not isinstance(handler.body[-1], ast.Raise)


def test_only_borders_catch_everything() -> None:
    broad = {
        relative(path)
        for path in files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler) and swallows_everything(node)
    }
    assert broad == set(BROAD_EXCEPTS), "a broad except outside a border, or allowed without need"


def test_nothing_unfinished() -> None:
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    wrong = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if unfinished.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_file_says_what_it_is_for() -> None:
    silent = [relative(path) for path in files() if not ast.get_docstring(parsed(path))]
    assert not silent, silent


# ------------------------------------------------------------------------------------------------ settings


def settings() -> Iterator[tuple[str, str]]:
    """(class, field) of every settings dataclass, inherited fields once, where they are declared."""
    for path in sorted((PACKAGE / "core" / "config").glob("*.py")):
        module = importlib.import_module(f"posttrain.core.config.{path.stem}") if path.stem != "__init__" else config
        for item in vars(module).values():
            if isinstance(item, type) and dataclasses.is_dataclass(item) and item.__module__ == module.__name__:
                yield from ((item.__name__, name) for name in item.__annotations__ if not name.startswith("__"))


def names_read() -> set[str]:
    """Every attribute name that is read outside core/config, asked for by getattr with a literal, or shown in the report."""
    found: set[str] = set()
    for path in files():
        if path.is_relative_to(PACKAGE / "core" / "config"):
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
                found.update(str(argument.value) for argument in node.args[1:2] if isinstance(argument, ast.Constant))
    for template in PACKAGE.rglob("*.jinja"):
        found.update(re.findall(r"""recipe(?:\.get\(|\[)["'](\w+)""", template.read_text(encoding="utf-8")))
    return found


def test_every_setting_is_read_somewhere() -> None:
    """Weak where a name is common (`name`, `seed`), strong for the rest: a setting that is accepted and ignored is a lie."""
    declared = list(settings())
    assert ("RolloutConfig", "mismatch_budget") in declared and len(declared) > 80
    read = names_read()
    ignored = {f"{owner}.{name}" for owner, name in declared if name not in read}
    assert ignored == set(SELF_CONTAINED), "accepted and ignored, or allowed without need"


def test_every_kind_of_stage_has_its_module_and_its_estimate() -> None:
    estimates = importlib.import_module("posttrain.pipeline.estimate").ESTIMATES
    for kind, settings_class in config.STAGE_KINDS.items():
        assert (PACKAGE / "stages" / f"{kind}.py").is_file() and settings_class in estimates, kind


def undocumented(owner: ast.ClassDef) -> Iterator[str]:
    """Fields without a docstring right after them; what a class says of its kind is no setting and needs none."""
    for statement, following in itertools.pairwise([*owner.body, ast.Pass()]):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name = statement.target.id
        of_the_kind = name == "kind" or ast.unparse(statement.annotation).startswith("ClassVar")
        if not of_the_kind and not name.startswith("__") and not isinstance(following, ast.Expr):
            yield f"{owner.name}.{name}"


def test_every_setting_has_its_help() -> None:
    classes = (node for path in (PACKAGE / "core" / "config").glob("*.py") for node in ast.walk(parsed(path)))
    mute = [name for node in classes if isinstance(node, ast.ClassDef) for name in undocumented(node)]
    assert not mute, mute


# ------------------------------------------------------------------------------------------------ the README


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_tree_is_the_real_one() -> None:
    scripts = str(ROOT / "scripts")
    sys.path.insert(0, scripts)
    try:
        tree = importlib.import_module("tree")
    finally:
        sys.path.remove(scripts)
    assert tree.in_readme() == tree.tree(), "run `make tree`"


def test_every_line_of_the_tree_says_something() -> None:
    block = readme().split("```text\n")[1].split("```")[0]
    mute = [line for line in block.splitlines() if len(line.split(maxsplit=1)) < 2]
    assert not mute, mute


def test_links_in_the_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    dead = []
    for document in documents:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if not target.startswith("http") and not (document.parent / target).exists():
                dead.append(f"{document.name}: {target}")
    assert not dead, dead


def test_the_lock_names_no_index_no_path_and_no_torch() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?://|file:|^-|(^|\n)(torch|triton|nvidia-|cuda-)", lock)
    pinned = re.findall(r"^([a-z0-9.-]+)==", lock, flags=re.MULTILINE)
    wanted = re.findall(r'^    "([A-Za-z0-9._-]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {name.lower().replace(".", "-") for name in wanted} - {"torch"} <= set(pinned)


def test_make_explains_itself() -> None:
    shown = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ).stdout
    for target in ("setup", "demo", "test", "lint", "bench"):
        assert f"make {target}" in shown
