"""A recipe whose tasks are played in an environment of the user's own: it learns, it resumes, and what was said can be read."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from posttrain.models.toy import make_toy
from posttrain.records.metrics import read_metrics
from posttrain.records.rollouts import read_rollouts
from tests.stages.helpers import fingerprint, run, turn

WORLD = '''
"""Say two things. The more of what was said is a letter, the better."""

from posttrain.core.types import Grade, Observation, Message, StepResult


class Talk:
    tools = ()

    def __init__(self, task, turns=1):
        self.turns, self.said = turns, []

    async def reset(self, task):
        return Observation(task.messages)

    async def step(self, action):
        self.said.append(action.message.content)
        text = "".join(self.said)
        share = sum(c.islower() for c in text) / max(1, len(text))
        done = len(self.said) == self.turns
        more = () if done else (Message("user", "more <b>please</b>"),)
        return StepResult(Observation(more), terminated=done, grade=Grade(share, passed=share > 0.7))

    async def close(self):
        pass
'''

RECIPE = """
name: talk
source: a test
tradeoff: none
model: ./model
seed: 3
stages:
  - id: start
    kind: evaluate
    model: base
    suites: &suites {s: {source: ./tasks.jsonl}}
    environment: &world {kind: own, path: "./world.py:Talk", options: {turns: 2}, max_turns: 3}
    sampling: &sampling {max_tokens: 8}
  - id: learn
    kind: sft
    model: base
    data: ./train.jsonl
    steps: 30
    batch_size: 16
    learning_rate: 1e-2
    lora: null
    dedup: false
    decontaminate: false
    checkpoint_every: 30
  - id: rl
    kind: grpo
    model: learn
    tasks: ./tasks.jsonl
    environment: *world
    steps: 10
    prompts_per_step: 4
    samples_per_prompt: 8
    max_tokens: 8
    learning_rate: 1e-2
    algorithm: dr_grpo
    checkpoint_every: 3
    lora: null
  - id: best
    kind: best_of_n
    model: learn
    tasks: ./tasks.jsonl
    environment: *world
    sampling: {samples: 4, temperature: 1.0, max_tokens: 8}
    keep: {passed: false, finished: false}
  - {id: end, kind: evaluate, model: rl, suites: *suites, environment: *world, sampling: *sampling, compare_to: start}
  - {id: why, kind: diagnose, of: end, before: start}
"""


def write(folder: Path, recipe: str = RECIPE) -> Path:
    """The toy model learns to say three characters and stop; from then on reinforcement learning can move what it says."""
    make_toy(folder / "model", size="tiny")
    (folder / "world.py").write_text(WORLD)
    stream = random.Random(0)
    tasks = [{"id": f"t{i}", "prompt": f"say {i}"} for i in range(8)]
    rows = [
        {
            "messages": [
                turn("user", f"say {i % 8}"),
                turn("assistant", "".join(stream.choice("abcdefgh01234567") for _ in range(3))),
            ]
        }
        for i in range(64)
    ]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tasks))
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "recipe.yaml").write_text(recipe)
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("undisturbed")
    done = run(recipe, runs)
    assert done.returncode == 0, done.stderr
    return runs / "talk"


def test_reward_rises(undisturbed: Path) -> None:
    rows = list(read_metrics(undisturbed / "rl/metrics.jsonl"))
    assert rows[-1]["reward/mean"] > rows[0]["reward/mean"] + 0.2, [row["reward/mean"] for row in rows]
    assert rows[-1]["episode/turns"] > 1 and rows[-1]["rollouts/failed"] == 0


def test_killed_in_the_middle_and_run_again_is_no_interruption(recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    killed = run(recipe, tmp_path, fault="step:done:35=kill")
    assert killed.returncode == -9, killed.stderr
    assert run(recipe, tmp_path).returncode == 0
    assert fingerprint(tmp_path / "talk") == fingerprint(undisturbed)


def test_records_keep_every_message_and_every_row(undisturbed: Path) -> None:
    (file, *_) = sorted((undisturbed / "rl/rollouts").glob("*.parquet"))
    records = [record for record in read_rollouts(file) if record.ending == "terminated"]
    assert records
    for record in records:
        assert [message["role"] for message in record.prompt[-3:]] == ["user", "assistant", "user"]
        assert record.prompt[-1]["content"] == "more <b>please</b>"
    for row in pq.read_table(file).to_pylist():
        if row["ending"] != "failed":
            ((tokens, mask),) = [(each["tokens"], each["mask"]) for each in row["rows"]]
            assert len(tokens) == len(mask) and sum(mask) == row["tokens"]


def test_the_best_episodes_are_training_rows_with_all_their_turns(undisturbed: Path) -> None:
    rows = [json.loads(line) for line in (undisturbed / "best/data.jsonl").read_text().splitlines()]
    two_turns = [[message["role"] for message in row["messages"]] == ["user", "assistant"] * 2 for row in rows]
    assert sum(two_turns) > len(rows) / 2  # the model stops by itself nearly always; an answer cut off by its length ends the talk


def test_the_report_shows_the_turns_escaped(undisturbed: Path) -> None:
    page = (undisturbed / "report.html").read_text()
    assert "more &lt;b&gt;please&lt;/b&gt;" in page and "more <b>please" not in page


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            ("kind: own", "kind: ownn"),
            "recipe.yaml:12: stages[0].environment.kind is 'ownn', which is not an environment. Did you mean own?",
        ),
        (
            ("max_turns: 3", "max_turn: 3"),
            "recipe.yaml:12: stages[0].environment.max_turn is not a setting of environment 'own'. Did you mean max_turns?",
        ),
        (("max_turns: 3", "max_turns: 0"), "stages[0].environment.max_turns is 0; expected a number above 0"),
        (("./world.py:Talk", "./world.py:Tolk"), "world.py has no class or function 'Tolk'. Did you mean Talk?"),
        (("./world.py:Talk", "./wrld.py:Talk"), "wrld.py is not there"),
        (("./world.py:Talk", "./world.py"), "Write ./my_environment.py:Name."),
        (
            ("max_turns: 3", "grades: false"),
            "graders is empty; expected at least one grader, such as math, for this environment gives no grade",
        ),
        (
            ('kind: own, path: "./world.py:Talk", options: {turns: 2}', "kind: tools, tools: [calculater]"),
            "stages[0].environment.tools[0].kind is 'calculater', which is not a tool. Did you mean calculator?",
        ),
        (
            ('kind: own, path: "./world.py:Talk", options: {turns: 2}', "kind: tools, tools: [{kind: search, result: 3}]"),
            "stages[0].environment.tools[0].result is not a setting of tool 'search'. Did you mean results?",
        ),
        (
            ('kind: own, path: "./world.py:Talk", options: {turns: 2}', "kind: tools, tools: [search, search]"),
            "tools names search twice",
        ),
    ],
)
def test_wrong_settings_end_with_code_2_and_their_place(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    done = run(write(tmp_path, RECIPE.replace(*change, 1)), tmp_path / "runs")
    text = " ".join(done.stderr.split())
    assert done.returncode == 2 and says in text, done.stderr
    assert "recipe.yaml:" in text or "world.py" in text


def test_a_file_that_raises_when_it_is_loaded_is_named(tmp_path: Path) -> None:
    recipe = write(tmp_path)
    (tmp_path / "world.py").write_text("raise RuntimeError('no')")
    done = run(recipe, tmp_path / "runs")
    assert done.returncode == 2 and "RuntimeError: no" in done.stderr
