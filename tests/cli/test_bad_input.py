"""Kinds of wrong input, through the real command: exit code 2, the place, one fix, no traceback, nothing lost."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from posttrain.core.config import STAGE_KINDS

Write = Callable[[Path], None]


def text(name: str, content: str | bytes) -> Write:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def link(name: str, target: str) -> Write:
    def write(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return write


def both(*writes: Write) -> Write:
    def write(folder: Path) -> None:
        for each in writes:
            each(folder)

    return write


def rows(*lines: str) -> Write:
    """Training rows in train.jsonl, and a recipe that trains on them."""

    def write(folder: Path) -> None:
        (folder / "train.jsonl").write_text("\n".join(lines) + "\n" if lines else "")
        changed(('{source: "builtin:arithmetic", count: 24}', "./train.jsonl"))(folder)

    return write


def tasks(*lines: str) -> Write:
    def write(folder: Path) -> None:
        (folder / "tasks.jsonl").write_text("\n".join(lines) + "\n")
        changed(('{source: "builtin:arithmetic", count: 32}', "./tasks.jsonl"))(folder)

    return write


def changed(*pairs: tuple[str, str]) -> Write:
    def write(folder: Path) -> None:
        recipe = (folder / "recipe.yaml").read_text()
        for old, new in pairs:
            assert old in recipe
            recipe = recipe.replace(old, new)
        (folder / "recipe.yaml").write_text(recipe)

    return write


def model(**files: str | None) -> Write:
    """A model directory with some files wrong or missing, named by the recipe."""

    def write(folder: Path) -> None:
        good = {"config.json": '{"hidden_size": 8}', "tokenizer.json": "{}", "weights.safetensors": "x"}
        (folder / "m").mkdir()
        for name, content in {
            **good,
            **{key.replace("_json", ".json").replace("_safetensors", ".safetensors"): value for key, value in files.items()},
        }.items():
            if content is not None:
                (folder / "m" / name).write_text(content)
        changed(("model: toy", "model: ./m"))(folder)

    return write


GOOD = json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]})
BUILTIN = '{source: "builtin:arithmetic", count: 24}'
TASK = json.dumps({"id": "1", "prompt": "1+1?", "answer": "2"})

MISTAKES: list[tuple[str, Write, str]] = [
    ("wrong role", rows(GOOD, GOOD.replace('"user"', '"gpt"')), "train.jsonl:2: "),
    ("missing column", rows('{"question": "hi"}'), "train.jsonl:1: "),
    ("half a JSON line", rows(GOOD, GOOD[:30]), "train.jsonl:2: "),
    ("empty file", rows(), "train.jsonl"),
    ("NaN in data", rows(GOOD[:-1] + ', "weight": NaN}'), "train.jsonl:1: "),
    ("no assistant turn", rows('{"messages": [{"role": "user", "content": "hi"}]}'), "train.jsonl:1: "),
    (
        "content that is no text",
        rows('{"messages": [{"role": "user", "content": 7}, {"role": "assistant", "content": "x"}]}'),
        "train.jsonl:1: ",
    ),
    (
        "data that is no UTF-8",
        both(rows(GOOD), text("train.jsonl", b'{"text": "\xff\xfe"}\n')),
        "train.jsonl:1: ",
    ),
    ("a list for a row", rows("[1, 2]"), "train.jsonl:1: "),
    ("data that is not there", changed(('{source: "builtin:arithmetic", count: 24}', "./gone.jsonl")), "gone.jsonl"),
    (
        "data that is a folder",
        changed(('{source: "builtin:arithmetic", count: 24}', "./runs")),
        "runs",
    ),
    ("a link to itself", both(rows(GOOD), link("train.jsonl", "train.jsonl")), "train.jsonl: "),
    ("a null byte in a path", changed((BUILTIN, '"./a\\0b"')), "recipe.yaml:7: "),
    (
        "a folder of nobody",
        changed((BUILTIN, "~no-one-of-this-name/x.jsonl")),
        "recipe.yaml:7: ",
    ),
    (
        "a name too long",
        changed((BUILTIN, f"./{'a' * 300}.jsonl")),
        "cannot be read: File name",
    ),
    ("a task without a prompt", tasks('{"answer": "2"}'), "tasks.jsonl:1: "),
    ("a task whose gold fails", tasks(TASK[:-1] + ', "metadata": {"gold": "It is 3."}}'), "recipe.yaml:12: "),
    (
        "unknown set",
        changed(('"builtin:arithmetic", count: 32', '"builtin:arithmatic", count: 32')),
        "recipe.yaml:11: there is no built-in set 'arithmatic'. Did you mean arithmetic?",
    ),
    (
        "unknown option of a set",
        changed(("count: 32}", "count: 32, options: {digitz: [1]}}")),
        "recipe.yaml:11: digitz is not an option of builtin:arithmetic. Did you mean digits?",
    ),
    (
        "unknown key",
        changed(("steps: 3\n", "stepz: 3\n")),
        "recipe.yaml:13: stages[2].stepz is not a setting of kind 'grpo'. Did you mean steps? (default 100)",
    ),
    ("negative rate", changed(("steps: 3\n", "learning_rate: -1\n")), "recipe.yaml:13: stages[2].learning_rate is -1"),
    (
        "cyclic stages",
        changed(("id: sft, kind: sft,", "id: sft, kind: sft, model: rl,")),
        "recipe.yaml:7: stages[1].model closes a cycle: sft -> rl -> sft.",
    ),
    ("half a recipe", changed(("max_tokens: 8}, compare_to: start}\n", "max_tokens: 8")), "recipe.yaml:"),
    ("a recipe that is empty", text("recipe.yaml", ""), "recipe.yaml:1: the recipe is empty"),
    (
        "an unknown model",
        changed(("model: toy", "model: smollm2-135m")),
        "model 'smollm2-135m' is neither a stage of this recipe nor a model that is there. Did you mean smollm2-135m-instruct?",
    ),
    ("an unknown stage as model", changed(("model: sft", "model: stf")), "recipe.yaml:10: model 'stf' is neither a stage"),
    ("a model that is not there", changed(("model: toy", "model: ./gone")), "gone is not there"),
    ("a model without config", model(config_json=None), "has no readable config.json"),
    ("a model with half a config", model(config_json="{"), "has no readable config.json"),
    ("a model without safetensors", model(weights_safetensors=None), "has no .safetensors file"),
    ("a model without tokenizer", model(tokenizer_json=None), "has no tokenizer.json"),
    ("a hub model while offline", changed(("model: toy", "model: nobody/nothing")), "is not in the hub's cache"),
    (
        "a run that is not there",
        changed(("model: sft", "model: run:old/sft")),
        "recipe.yaml:10: 'run:old/sft': there is no run 'old'",
    ),
    ("a grader that is not there", changed(("[math,", "[{kind: function, path: ./gone.py:f},")), "recipe.yaml:12: "),
    (
        "a function that is not there",
        both(
            text("g.py", "def f(task, answer):\n    return 1.0\n"),
            changed(("[math,", "[{kind: function, path: ./g.py:ff},")),
        ),
        "g.py: has no function 'ff'. Did you mean f?",
    ),
]


def tree(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_mistake_is_a_different_one() -> None:
    assert len({name for name, _, _ in MISTAKES}) == len(MISTAKES) >= 20


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(("spoil", "said"), [pytest.param(spoil, said, id=name) for name, spoil, said in MISTAKES])
def test_wrong_input(
    posttrain: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Write, said: str, command: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spoil(tmp_path)
    (tmp_path / "runs" / "precious").mkdir(parents=True)
    (tmp_path / "runs" / "precious" / "recipe.yaml").write_text("mine")
    before = tree(tmp_path)
    found = posttrain(command, "recipe.yaml")
    assert found.code == 2, found
    assert found.err.startswith("error: ") and said in found.err
    assert "Traceback" not in found.err and "pydantic" not in found.err
    assert found.out == "" and len(found.err.strip().splitlines()) == 1
    assert found.err.strip()[-1] in ".?)"  # it ends with a fix, in a sentence
    assert tree(tmp_path) == before


COMMANDS: list[tuple[str, list[str], str]] = [
    ("no such recipe", ["run", "rlrv"], "there is no recipe 'rlrv'. Did you mean rlvr?"),
    ("no such scale", ["check", "rlvr", "--scale", "tyny"], "has no scale 'tyny'. Did you mean tiny?"),
    ("no such setting", ["check", "recipe.yaml", "--set", "rl.stepz=1"], "Did you mean steps?"),
    ("no such run to resume", ["resume", "nothing"], "there is no run 'nothing' in runs."),
    ("a run that is a path", ["resume", "../.."], "there is no run '../..'"),
    ("no such run to report", ["report", "nothing"], "there is no run 'nothing' in runs."),
    ("no such run to compare", ["compare", "a", "b"], "'a' is neither a run nor a stage of one"),
    ("no such run to diagnose", ["diagnose", "a"], "'a' is neither a run nor a stage of one"),
    ("no such grader", ["grade", "maths", "--answer", "x"], "'maths' is not a grader. Did you mean math?"),
    (
        "no such setting of a grader",
        ["grade", "math", "--answer", "x", "--set", "extrakt=boxed"],
        "extrakt is not a setting of grader 'math'. Did you mean extract?",
    ),
    ("no such suite", ["eval", "toy", "--suite", "builtin:arithmatic"], "Did you mean arithmetic?"),
    ("a wrong number", ["eval", "toy", "--suite", "builtin:arithmetic", "--samples", "4"], "greedy answers are all equal"),
    ("no such model", ["eval", "tooy", "--suite", "builtin:arithmetic"], "Did you mean toy?"),
    ("no such model to chat with", ["chat", "tooy"], "Did you mean toy?"),
    ("no such recipe to print", ["recipes", "rlrv"], "Did you mean rlvr?"),
]


@pytest.mark.parametrize(("arguments", "said"), [pytest.param(arguments, said, id=name) for name, arguments, said in COMMANDS])
def test_wrong_arguments(posttrain: Callable, arguments: list[str], said: str) -> None:
    found = posttrain(*arguments)
    assert found.code == 2 and said in found.err and "Traceback" not in found.err


@pytest.mark.parametrize("arguments", [["rnu", "rlvr"], ["run"], ["run", "rlvr", "--scael", "tiny"], ["graders", "tets"]])
def test_wrong_commands_and_options(posttrain: Callable, arguments: list[str]) -> None:
    found = posttrain(*arguments)
    assert found.code == 2 and "Traceback" not in found.err


def test_debug_shows_the_traceback_wherever_it_stands(posttrain: Callable) -> None:
    for arguments in (["--debug", "check", "gone.yaml"], ["check", "gone.yaml", "--debug"]):
        found = posttrain(*arguments)
        assert found.code == 2 and "Traceback" in found.err and "gone.yaml is not there" in found.err


def test_a_bug_is_called_one(posttrain: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posttrain.pipeline.parse.shipped", lambda: 1 / 0)
    found = posttrain("recipes")
    assert found.code == 1 and "bug: ZeroDivisionError" in found.err and "--debug" in found.err and "Traceback" not in found.err


@pytest.mark.parametrize("where", ["recipe.yaml/runs", "/proc/self/nothing/runs"])
def test_a_place_that_cannot_be_written_is_the_worlds_fault(posttrain: Callable, where: str) -> None:
    """A folder below a file, and one where root may not write either."""
    found = posttrain("run", "recipe.yaml", "--runs", where)
    assert found.code == 4 and "error: " in found.err and "bug:" not in found.err and "Traceback" not in found.err


def test_empty_answers_are_left_out_and_counted(posttrain: Callable, tmp_path: Path) -> None:
    empty = json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": " "}]})
    blank = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]})
    rows(*[GOOD.replace("hello", f"hello {i}") for i in range(3)], empty, blank)(tmp_path)
    text = (tmp_path / "recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(text[: text.index("  - id: rl")])
    assert posttrain("run", "recipe.yaml").code == 0
    summary = json.loads((tmp_path / "runs/small/sft/result.json").read_text())["summary"]
    assert summary["rows"] == 3 and summary["dropped"] == {"empty answer": 2}
    (tmp_path / "train.jsonl").write_text(empty + "\n")
    found = posttrain("run", "recipe.yaml", "--name", "other")
    assert found.code == 2 and "no rows to train on (left out: {'empty answer': 1})" in found.err


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("generation_config.json", "", "generation_config.json: is no JSON"),
        ("model.safetensors", "x", "cannot be loaded: Error while deserializing header"),
        ("tokenizer.json", "{", "tokenizer.json: is no JSON"),
        ("config.json", '{"model_type": "of nobody"}', "does not recognize this architecture"),
    ],
)
def test_a_damaged_model_is_named(posttrain: Callable, tmp_path: Path, toy_path: Path, file: str, content: str, said: str) -> None:
    shutil.copytree(toy_path, tmp_path / "m")
    (tmp_path / "m" / file).write_text(content)
    changed(("model: toy", "model: ./m"))(tmp_path)
    found = posttrain("run", "recipe.yaml")
    assert found.code == 2 and said in found.err and str(tmp_path / "m") in found.err and "Traceback" not in found.err


def test_a_model_without_an_end_token_is_refused_before_the_run(posttrain: Callable, tmp_path: Path, toy_path: Path) -> None:
    shutil.copytree(toy_path, tmp_path / "m")
    settings = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": None}))
    for template in tmp_path.glob("m/chat_template.jinja"):
        template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    changed(("model: toy", "model: ./m"))(tmp_path)
    found = posttrain("run", "recipe.yaml")
    assert found.code == 2 and "end" in found.err and "Traceback" not in found.err


def test_every_kind_of_stage_is_checked() -> None:
    assert set(STAGE_KINDS) == {
        "sft",
        "grpo",
        "ppo",
        "best_of_n",
        "evaluate",
        "diagnose",
        "midtrain",
        "teach",
        "distill",
        "preferences",
        "dpo",
        "online_dpo",
        "reward_model",  # test_reward_model_input.py
        "average",  # tests/stages/test_average.py
    }, "a new kind: add its mistakes above"
