"""Scored answers -> which is better: the best with the worst of a task, or every two that differ.

What the gold says is all there is: a grader that can be fooled makes preferences for what fools it, and one that scores all
answers of a task alike says nothing, so that easy and impossible tasks give no pairs. The best with the worst is what
iterated DPO samples (arXiv:2405.07863, section 3); it prefers extremes, which differ from the others in more than quality
(length, layout). Why a task gave no pair is counted.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from posttrain.core.config import PreferencesConfig
from posttrain.core.seeds import derive
from posttrain.core.types import Pair, Task
from posttrain.synthesis.best_of_n import Candidate


@dataclass(frozen=True)
class Compared:
    """One task's answers and which of them are preferred. `samples` and `scores` are None for a known answer; `flipped` says
    of each pair whether its label was turned round."""

    task: Task
    answers: Sequence[str]
    samples: Sequence[int | None]
    scores: Sequence[float | None]
    pairs: Sequence[Pair]
    flipped: Sequence[bool]


@dataclass(frozen=True)
class Compilation:
    """All tasks that gave pairs, and how many gave none for which reason."""

    compared: Sequence[Compared]
    skipped: Mapping[str, int]


def paired(scores: Sequence[float], can_win: Sequence[bool], pairing: str, margin: float) -> list[Pair]:
    """Pairs of answers by their scores. Only an answer that `can_win` is ever the better one. Of equal scores the first counts."""
    winners = [i for i, able in enumerate(can_win) if able]
    if not winners:
        return []
    if pairing == "best_worst":
        chosen = [(max(winners, key=lambda i: scores[i]), min(range(len(scores)), key=lambda i: scores[i]))]
    else:
        chosen = list(product(winners, range(len(scores))))
    return [
        Pair(better, worse, margin=scores[better] - scores[worse])
        for better, worse in chosen
        if scores[better] - scores[worse] >= margin and scores[better] > scores[worse]
    ]


def compare(candidates: Iterable[Candidate], tasks: Mapping[str, Task], config: PreferencesConfig, *, seed: int) -> Compilation:
    """Every task's answers compared. Flips of labels are keyed by seed, task and samples."""
    by_task: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_task.setdefault(candidate.task_id, []).append(candidate)
    found: list[Compared] = []
    skipped: Counter[str] = Counter()
    for task_id, answers in by_task.items():
        task = tasks[task_id]
        made = with_known(task, answers, config) if config.better == "reference" else among(task, answers, config)
        if isinstance(made, str):
            skipped[made] += 1
        else:
            found.append(with_noise(made, config.label_noise, seed))
    return Compilation(found, dict(skipped))


def among(task: Task, answers: Sequence[Candidate], config: PreferencesConfig) -> Compared | str:
    """The model's own answers compared with each other, or why not."""
    kept = list(scored(answers))
    if len(kept) < 2:
        return "fewer than two different scored answers"
    scores = [score for _, score in kept]
    can_win = [answer.rollout_status == "done" or not config.finished for answer, _ in kept]
    pairs = paired(scores, can_win, config.pairing, config.margin)
    if not pairs:
        if len(set(scores)) == 1:
            return "all scores equal"
        apart = paired(scores, [True] * len(kept), config.pairing, config.margin)
        return "every better answer was cut off" if apart else "margin too small"
    used = sorted({side for pair in pairs for side in (pair.better, pair.worse)})
    where = {old: new for new, old in enumerate(used)}
    return Compared(
        task,
        [kept[i][0].completion for i in used],
        [kept[i][0].sample for i in used],
        [scores[i] for i in used],
        [replace(pair, better=where[pair.better], worse=where[pair.worse]) for pair in pairs],
        [False] * len(pairs),
    )


def with_known(task: Task, answers: Sequence[Candidate], config: PreferencesConfig) -> Compared | str:
    """The task's known answer preferred to those of the model that do not pass, or why not."""
    known = task.metadata.get("gold", task.answer)
    if not isinstance(known, str) or not known.strip():
        return "no known answer"
    wrong = [(answer, score) for answer, score in scored(answers) if answer.passed is False and answer.completion != known]
    if not wrong:
        return "no wrong answer"
    if config.pairing == "best_worst":
        wrong = [min(wrong, key=lambda each: each[1])]
    return Compared(
        task,
        [known, *(answer.completion for answer, _ in wrong)],
        [None, *(answer.sample for answer, _ in wrong)],
        [None, *(score for _, score in wrong)],
        [Pair(0, worse) for worse in range(1, len(wrong) + 1)],
        [False] * len(wrong),
    )


def scored(answers: Sequence[Candidate]) -> Iterator[tuple[Candidate, float]]:
    """Answers with their scores, without the unscored, the empty and the repeated."""
    seen: set[str] = set()
    for answer in answers:
        text = answer.completion.strip()
        if answer.score is not None and text and text not in seen:
            seen.add(text)
            yield answer, answer.score


def with_noise(made: Compared, noise: float, seed: int) -> Compared:
    """Each pair turned round with probability `noise`: what a labeller does who is wrong that often."""
    flipped = [
        random.Random(derive(seed, "label", made.task.id, str(made.samples[p.better]), str(made.samples[p.worse]))).random() < noise
        for p in made.pairs
    ]
    pairs = [
        replace(pair, better=pair.worse, worse=pair.better) if flip else pair
        for pair, flip in zip(made.pairs, flipped, strict=True)
    ]
    return replace(made, pairs=pairs, flipped=flipped)
