"""Commands run as a person runs them: arguments in, output and exit code out."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from posttrain.cli import main

RECIPE = """\
name: small
source: a test
tradeoff: none
model: toy
stages:
  - {id: start, kind: evaluate, suites: {test: {source: "builtin:arithmetic", split: test, count: 8}}, graders: math, sampling: {max_tokens: 8}}
  - {id: sft, kind: sft, data: {source: "builtin:arithmetic", count: 24}, steps: 3, batch_size: 8, checkpoint_every: 1}
  - id: rl
    kind: grpo
    model: sft
    tasks: {source: "builtin:arithmetic", count: 32}
    graders: [math, {kind: length, soft: 2, hard: 12}]
    steps: 3
    prompts_per_step: 2
    samples_per_prompt: 4
    max_tokens: 8
    checkpoint_every: 1
  - {id: end, kind: evaluate, model: rl, suites: {test: {source: "builtin:arithmetic", split: test, count: 8}}, graders: math, sampling: {max_tokens: 8}, compare_to: start}
  - {id: why, kind: diagnose, of: end, before: start, patch: {source: "builtin:arithmetic", count: 8}}
"""  # noqa: E501 - a stage a line


@dataclass(frozen=True)
class Output:
    code: int
    out: str
    err: str


Command = Callable[..., Output]


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put back the signal handlers that a command sets for its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def posttrain(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers: None) -> Command:
    """Run a command in a fresh folder that holds recipe.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSTTRAIN_RUNS", raising=False)
    (tmp_path / "recipe.yaml").write_text(RECIPE)

    def command(*arguments: str) -> Output:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(arguments)
        printed = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Output(end.value.code, printed.out, printed.err)

    return command
