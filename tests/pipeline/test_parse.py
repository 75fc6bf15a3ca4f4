# ruff: noqa: E501 - one mistake a line
"""Recipes are read as they were meant, and wrong ones are refused with the line, the setting and one fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from posttrain.core.config import EvaluateConfig, GrpoConfig, MathGrader, SftConfig
from posttrain.core.errors import UserError
from posttrain.pipeline.parse import dump, load_recipe, load_resolved, shipped

Write = Callable[[str], Path]
START = "  - {id: start, kind: evaluate, suites: {test: builtin:arithmetic}, graders: math}\n"


def error(path: Path | str, *overrides: str, scale: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(str(path), scale=scale, overrides=overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_short_forms_numbers_and_defaults(recipe_file: Path) -> None:
    recipe = load_recipe(str(recipe_file), overrides=["rl.learning_rate=1e-4", "sft.steps=5", "seed=3"])
    start, sft, rl = (stage.config for stage in recipe.stages[:3])
    assert (
        isinstance(start, EvaluateConfig)
        and start.suites["test"].source == "builtin:arithmetic"
        and start.graders == (MathGrader(),)
    )
    assert isinstance(sft, SftConfig) and sft.data[0].source == "builtin:arithmetic" and sft.steps == 5
    assert isinstance(rl, GrpoConfig) and rl.learning_rate == 1e-4 and [g.kind for g in rl.graders] == ["math", "format"]
    assert recipe.seed == 3 and recipe.stages[3].kind == "best_of_n"


def test_yaml_1_2_words_are_text_and_1e_minus_4_is_a_number(write: Write) -> None:
    rows = START + '  - {id: on, kind: sft, data: {source: "builtin:arithmetic", options: {no: off}}, learning_rate: 1e-4}\n'
    recipe = load_recipe(str(write(rows)))
    config = recipe.stages[1].config
    assert recipe.stages[1].id == "on" and isinstance(config, SftConfig)
    assert config.learning_rate == 1e-4 and config.data[0].options == {"no": "off"}


def test_a_resolved_recipe_reads_back_as_the_same_recipe(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(recipe_file), overrides=["rl.lora=null", "rl.kl.coefficient=0.1"])
    (tmp_path / "resolved.yaml").write_text(dump(recipe))
    assert load_resolved(tmp_path / "resolved.yaml") == recipe


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_recipes_are_valid_and_say_what_they_cost(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, scale="tiny")
    assert recipe.name == name and recipe.scale == "tiny" and len(recipe.tradeoff) > 40 and recipe.differs
    assert recipe.stages[0].config.model == "base"  # type: ignore[union-attr]
    (tmp_path / "resolved.yaml").write_text(dump(recipe))
    assert load_resolved(tmp_path / "resolved.yaml") == recipe


def test_paths_are_relative_to_the_recipe_and_of_set_to_here(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(START + "  - {id: sft, kind: sft, data: [./a.jsonl, ../b.jsonl]}\n")
    monkeypatch.chdir("/")
    recipe = load_recipe(str(path), overrides=["model=./m", "start.graders.0.kind=function", "start.graders.0.path=./g.py:f"])
    sft = recipe.stages[1].config
    assert isinstance(sft, SftConfig) and [s.source for s in sft.data] == [
        str(tmp_path / "a.jsonl"),
        str(tmp_path.parent / "b.jsonl"),
    ]
    assert recipe.model == "/m" and recipe.stages[0].config.graders[0].path == "/g.py:f"  # type: ignore[union-attr]


class TestScales:
    TEXT = (
        f"name: x\nsource: a\ntradeoff: b\nmodel: toy\nstages:\n{START}"
        "  - {id: rl, kind: grpo, tasks: builtin:arithmetic, graders: math, kl: {coefficient: 0.1}}\n"
        "scales:\n  tiny: {model: smollm2-135m-instruct, stages: {rl: {steps: 2, kl: {target: 0.5}}}}\n"
        "  huge: {executor: cluster}\n"
    )

    def test_the_first_scale_is_taken_and_merged_key_by_key(self, write: Write) -> None:
        recipe = load_recipe(str(write(self.TEXT)))
        rl = recipe.stages[1].config
        assert isinstance(rl, GrpoConfig) and (rl.steps, rl.kl.coefficient, rl.kl.target) == (2, 0.1, 0.5)
        assert (recipe.scale, recipe.model, recipe.executor) == ("tiny", "smollm2-135m-instruct", "local")

    def test_another_scale_by_name(self, write: Write) -> None:
        recipe = load_recipe(str(write(self.TEXT)), scale="huge")
        assert (recipe.scale, recipe.model, recipe.executor) == ("huge", "toy", "cluster")

    def test_an_unknown_scale_names_the_nearest(self, write: Write) -> None:
        assert error(write(self.TEXT), scale="tinny") == "recipe.yaml:8: the recipe has no scale 'tinny'. Did you mean tiny?"

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("rl: {steps: 2", "rll: {steps: 2", "recipe.yaml:9: the recipe has no stage 'rll'. Did you mean rl?"),
            ("executor: cluster", "executer: cluster", "scales.huge.executer is not a key of a scale. Did you mean executor?"),
            (
                "steps: 2",
                "stepz: 2",
                "recipe.yaml:9: stages[1].stepz is not a setting of kind 'grpo'. Did you mean steps? (default 100)",
            ),
        ],
    )
    def test_mistakes_inside_a_scale(self, write: Write, old: str, new: str, said: str) -> None:
        assert said in error(write(self.TEXT.replace(old, new)))


class TestRounds:
    TEXT = START + (
        "  - repeat:\n      times: 3\n      stages:\n"
        "        - {id: train, kind: sft, model: previous/train, data: [builtin:arithmetic, previous/why]}\n"
        "        - {id: test, kind: evaluate, model: train, suites: {test: builtin:arithmetic}, graders: math, compare_to: previous/test}\n"
        "        - {id: why, kind: diagnose, of: test, before: previous/test, patch: builtin:arithmetic}\n"
        "  - {id: end, kind: evaluate, model: train, suites: {test: builtin:arithmetic}, graders: math, compare_to: round-1/test}\n"
    )

    def test_references_point_into_the_round_and_to_the_one_before(self, write: Write) -> None:
        recipe = load_recipe(str(write(self.TEXT)))
        by_id = {stage.id: stage.config for stage in recipe.stages}
        assert list(by_id)[1:4] == ["round-1/train", "round-1/test", "round-1/why"] and len(by_id) == 11
        first, second = by_id["round-1/train"], by_id["round-2/train"]
        assert isinstance(first, SftConfig) and isinstance(second, SftConfig)
        assert first.model == "base" and [s.source for s in first.data] == ["builtin:arithmetic"]
        assert second.model == "round-1/train" and [s.source for s in second.data] == ["builtin:arithmetic", "round-1/why"]
        assert by_id["round-1/test"].compare_to is None and by_id["round-3/test"].compare_to == "round-2/test"  # type: ignore[union-attr]
        assert by_id["round-3/why"].of == "round-3/test" and by_id["end"].model == "round-3/train"  # type: ignore[union-attr]

    def test_an_override_reaches_every_round_or_one(self, write: Write) -> None:
        recipe = load_recipe(str(write(self.TEXT)), overrides=["train.steps=4", "stages.round-2/train.steps=9"])
        steps = [stage.config.steps for stage in recipe.stages if isinstance(stage.config, SftConfig)]
        assert steps == [4, 9, 4]

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("times: 3", "times: 0", "recipe.yaml:8: stages[1].repeat.times is 0; expected a whole number from 1 to 100"),
            (
                "previous/why",
                "previous/wy",
                "recipe.yaml:10: 'previous/wy' names no stage of this repeat. Its stages: test, train, why.",
            ),
            ("id: end", "id: round-1", "an id becomes a folder"),
        ],
    )
    def test_mistakes_in_a_repeat(self, write: Write, old: str, new: str, said: str) -> None:
        assert said in error(write(self.TEXT.replace(old, new)))


SFT = START + "  - {id: sft, kind: sft, data: builtin:arithmetic}\n"
RL = START + "  - id: rl\n    kind: grpo\n    tasks: builtin:arithmetic\n    graders: [math]\n"

MISTAKES = [
    ("unknown key", RL + "    learning_rat: 1\n", "recipe.yaml:11: stages[1].learning_rat is not a setting of kind 'grpo'. Did you mean learning_rate? (default 1e-4)"),
    ("unknown nested key", RL + "    kl: {coeficient: 1}\n", "recipe.yaml:11: stages[1].kl.coeficient is not a setting of kl. Did you mean coefficient? (default 0)"),
    ("unknown grader key", RL.replace("[math]", "[{kind: math, wieght: 2}]"), "stages[1].graders[0].wieght is not a setting of grader 'math'. Did you mean weight? (default 1)"),
    ("unknown grader", RL.replace("[math]", "[mth]"), "recipe.yaml:10: stages[1].graders[0].kind is 'mth', which is not a grader. Did you mean math?"),
    ("grader without a kind", RL.replace("[math]", "[{extract: boxed}]"), "stages[1].graders[0] has no kind. Choose one of"),
    ("unknown kind of stage", START + "  - {id: a, kind: grop}\n", "recipe.yaml:7: stages[1].kind is 'grop', which is not a kind of stage. Did you mean grpo?"),
    ("stage without a kind", START + "  - {id: a}\n", "recipe.yaml:7: stages[1] has no kind. Kinds: sft,"),
    ("stage without an id", START + "  - {kind: sft}\n", "recipe.yaml:7: stages[1] has no id. Add `id:`"),
    ("text for a number", RL + "    steps: many\n", "recipe.yaml:11: stages[1].steps is 'many'; expected a whole number. Write a whole number (default 100)."),
    ("number in quotes", RL + '    steps: "5"\n', "stages[1].steps is '5'; expected a whole number"),
    ("fraction for a whole number", RL + "    steps: 1.5\n", "stages[1].steps is 1.5; expected a whole number"),
    ("true for a number", RL + "    learning_rate: true\n", "stages[1].learning_rate is True; expected a number"),
    ("negative rate", RL + "    learning_rate: -1e-4\n", "recipe.yaml:11: stages[1].learning_rate is -0.0001; expected a number above 0. The default is 1e-4."),
    ("NaN", RL + "    temperature: .nan\n", "recipe.yaml:11: stages[1].temperature is nan; expected a number above 0. The default is 1."),
    ("out of range, nested", RL + "    kl: {coefficient: -1}\n", "recipe.yaml:11: stages[1].kl.coefficient is -1.0; expected 0 or more. The default is 0."),
    ("not one of the words", RL + "    schedule: cosin\n", "stages[1].schedule is 'cosin'; expected one of constant, linear, cosine. Did you mean cosine? (default constant)"),
    ("a list for a mapping", RL + "    kl: [1]\n", "stages[1].kl is a list; expected a mapping"),
    ("an adapter vLLM refuses", RL + "    lora: {rank: 32}\n", "recipe.yaml:11: stages[1].lora.rank is 32; vLLM loads adapters up to rank 16 by default"),
    ("missing setting", START + "  - {id: rl, kind: grpo, graders: math}\n", "recipe.yaml:7: stages[1].tasks is missing. Add `tasks:` (Sources of tasks, mixed by weight)."),
    ("empty list", START + "  - {id: rl, kind: sft, data: []}\n", "recipe.yaml:7: stages[1].data is empty; expected at least one source. Change it there."),
    ("two stages of one id", SFT + "  - {id: sft, kind: sft, data: builtin:arithmetic}\n", "recipe.yaml:8: stages[2].id is 'sft', which another stage already has. Rename one of them; the other is recipe.yaml:7."),
    ("an id that is a path", SFT.replace("id: sft", "id: ../sft"), "recipe.yaml:7: stages[1].id is '../sft'; an id becomes a folder."),
    ("an absolute id", SFT.replace("id: sft", "id: /etc"), "recipe.yaml:7: stages[1].id is '/etc'; an id becomes a folder."),
    ("an id that is a number", SFT.replace("id: sft", "id: 7"), "stages[1].id is 7; an id becomes a folder."),
    ("a reserved id", SFT.replace("id: sft", "id: base"), "stages[1].id is 'base', a word with a meaning of its own"),
    ("a suite that is a path", START.replace("test:", "../x:"), "stages[0].suites.../x: a suite's name also names files."),
    ("forward reference", START + "  - {id: a, kind: sft, model: b, data: builtin:arithmetic}\n" + SFT.replace(START, "").replace("sft,", "b,", 1), "recipe.yaml:7: stages[1].model is 'b', which comes later; a stage can only use earlier ones. Move b up."),
    ("cycle", START + "  - {id: a, kind: sft, model: b, data: builtin:arithmetic}\n  - {id: b, kind: sft, model: a, data: builtin:arithmetic}\n", "recipe.yaml:7: stages[1].model closes a cycle: a -> b -> a."),
    ("itself", START + "  - {id: a, kind: sft, model: a, data: builtin:arithmetic}\n", "stages[1].model closes a cycle: a -> a."),
    ("wrong role", SFT + "  - {id: b, kind: sft, data: sft}\n", "recipe.yaml:8: stages[2].data[0].source is 'sft', a stage of kind 'sft', which writes no training rows. Refer to a stage of kind best_of_n"),
    ("no such source", SFT.replace("builtin:arithmetic}\n", "strat}\n", 2).replace("test: strat", "test: builtin:arithmetic"), "stages[1].data[0].source is 'strat', which is no stage of this recipe. Did you mean start?"),
    ("does not begin with base", SFT.replace(START, ""), "recipe.yaml:6: stages[0] (sft) is of kind 'sft'; a recipe begins by evaluating `base`, to know what changed."),
    ("nothing in common", SFT + "  - {id: e, kind: evaluate, suites: {other: builtin:lookup}, graders: lookup, compare_to: start}\n", "stages[2].compare_to is 'start', which has no suite in common with 'e'."),
]  # fmt: skip


@pytest.mark.parametrize(("stages", "said"), [pytest.param(text, said, id=name) for name, text, said in MISTAKES])
def test_mistakes_in_stages(write: Write, stages: str, said: str) -> None:
    assert said in error(write(stages))


FILES = [
    ("empty file", b"", "recipe.yaml:1: the recipe is empty;"),
    ("a list", b"- a\n- b\n", "recipe.yaml:1: the recipe holds a list;"),
    ("not YAML", b"name: [a\nb: c\n", "recipe.yaml:2: not valid YAML:"),
    ("tabs", b"name: x\nstages:\n\t- a\n", "recipe.yaml:3: not valid YAML:"),
    ("binary", b"\x80\x81\xff\x00", "cannot be read as text"),
    ("a key twice", b"name: x\nmodel: toy\nname: y\n", 'recipe.yaml:3: the key is given twice: "name".'),
    ("no stages", b"name: x\nsource: a\ntradeoff: b\nmodel: toy\n", "recipe.yaml:1: stages is missing."),
    ("nested deeply", b"a: " + b"[" * 40 + b"]" * 40, "recipe.yaml:1: nested more than 20 levels deep."),
    ("nested very deeply", b"a: " + b"[" * 4000 + b"]" * 4000, "recipe.yaml:1: nested too deeply to be read."),
]


@pytest.mark.parametrize(("content", "said"), [pytest.param(content, said, id=name) for name, content, said in FILES])
def test_mistakes_in_files(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "recipe.yaml").write_bytes(content)
    assert said in error(tmp_path / "recipe.yaml")


def test_a_recipe_must_say_what_it_costs(write: Write) -> None:
    text = f"name: x\nsource: a\nmodel: toy\nstages:\n{START}"
    assert "recipe.yaml:1: tradeoff is missing. Add `tradeoff:` (What choosing this recipe costs)." in error(write(text))
    assert "tradeoff is empty" in error(write(text + "tradeoff: ''\n"))


def test_all_mistakes_are_told_at_once(write: Write) -> None:
    said = error(write(RL + "    learning_rat: 1\n    schedule: cosin\n" + "  - {id: b, kind: nope}\n")).splitlines()
    assert [line.split(":")[1] for line in said] == ["12", "11", "13"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rl.stepz=3", "--set rl.stepz=3: stages[2].stepz is not a setting of kind 'grpo'. Did you mean steps? (default 100)"),
        ("rll.steps=3", "--set rll.steps=3: the recipe has no stage 'rll'. Did you mean rl?"),
        ("rl.steps", "--set rl.steps: expected key=value."),
        ("rl=3", "--set rl=3: rl is not a setting of a recipe."),
        ("rl.steps=-1", "--set rl.steps=-1: stages[2].steps is -1; expected a number above 0. The default is 100."),
        ("rl.graders.7.weight=1", "'7' is no position in stages[2].graders, a list of 2."),
        ("rl.steps.deep=1", "expected a whole number"),
    ],
)
def test_mistakes_in_overrides(recipe_file: Path, override: str, said: str) -> None:
    assert said in error(recipe_file, override)


def test_an_unknown_recipe_names_the_nearest() -> None:
    assert error("rlrv") == "there is no recipe 'rlrv'. Did you mean rlvr?"
    assert "recipe file nothing.yaml is not there" in error("./nothing.yaml")
