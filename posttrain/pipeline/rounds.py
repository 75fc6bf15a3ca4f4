"""`repeat: {times: 2, stages: [...]}` written out as `round-1/<id>`, `round-2/<id>`.

What a stage inside means by a reference:

* `<id>` of the same repeat is that stage of the same round;
* `previous/<id>` is that stage of the round before. Before the first round there is none: a model there is `base`, and a
  source of data, a source of tasks, or an evaluation to compare with is left out;
* after the repeat, `<id>` is that stage of the last round; `round-1/<id>` names any round.
"""

from __future__ import annotations

import copy
from typing import Any

from posttrain.core.errors import UserError
from posttrain.pipeline.references import reference_settings
from posttrain.pipeline.tree import Section, Series

PREVIOUS = "previous/"
SINGLE, SOURCES = reference_settings()
"""Settings of any kind that hold one reference, and those that hold a list of them or of sources."""
MOST = 100


def unroll(stages: Series) -> list[Section]:
    """The stages as a flat list of sections with their final ids and references."""
    flat: list[Section] = []
    last: dict[str, str] = {}
    for index, entry in enumerate(stages):
        place = stages.places[index]
        if not isinstance(entry, Section):
            raise UserError(
                f"stages[{index}] is {entry!r}; expected `{{id: ..., kind: ...}}`.", place=place, fix="Give it an id and a kind."
            )
        if "repeat" not in entry:
            flat.append(_renamed(entry, "", last))
            continue
        if len(entry) > 1:
            raise UserError(
                f"stages[{index}] has `repeat` beside other keys.", place=place, fix="Put the stages inside `repeat.stages`."
            )
        times, inner = _repeat(entry, index, place)
        ids = {str(stage["id"]) for stage in inner if isinstance(stage, Section) and "id" in stage}
        for number in range(1, times + 1):
            here = {**last, **{name: f"round-{number}/{name}" for name in ids}}
            before = {name: f"round-{number - 1}/{name}" for name in ids} if number > 1 else {}
            for position, stage in enumerate(inner):
                if not isinstance(stage, Section) or "repeat" in stage:
                    raise UserError(
                        "a stage of a repeat is itself a mapping with an id and a kind.",
                        place=inner.places[position],
                        fix="Repeats do not nest.",
                    )
                _known_previous(stage, ids)
                flat.append(_renamed(stage, f"round-{number}/", here, before))
        last |= {name: f"round-{times}/{name}" for name in ids}
    return flat


def _repeat(entry: Section, index: int, place: str) -> tuple[int, Series]:
    repeat = entry["repeat"]
    if not isinstance(repeat, Section) or set(repeat) != {"times", "stages"}:
        raise UserError(
            f"stages[{index}].repeat expects `times` and `stages`.", place=place, fix="Write `repeat: {times: 2, stages: [...]}`."
        )
    times, inner = repeat["times"], repeat["stages"]
    if type(times) is not int or not 1 <= times <= MOST:
        raise UserError(
            f"stages[{index}].repeat.times is {times!r}; expected a whole number from 1 to {MOST}.",
            place=repeat.at("times"),
            fix="Try 2.",
        )
    if not isinstance(inner, Series) or not inner:
        raise UserError(
            f"stages[{index}].repeat.stages is empty or not a list.", place=repeat.at("stages"), fix="List the stages of one round."
        )
    return times, inner


def _renamed(stage: Section, prefix: str, here: dict[str, str], before: dict[str, str] | None = None) -> Section:
    """A copy of the stage with its id prefixed and its references pointing to stages of the right round."""
    stage = copy.deepcopy(stage)
    if prefix and "id" in stage:
        stage.put("id", f"{prefix}{stage['id']}", stage.at("id"))

    def target(reference: Any) -> Any:
        """The reference's final name; None for the round before the first."""
        if isinstance(reference, str) and reference.startswith(PREVIOUS) and before is not None:
            return before.get(reference.removeprefix(PREVIOUS))
        return here.get(reference, reference) if isinstance(reference, str) else reference

    for key in SINGLE:
        if key in stage and stage[key] is not None:
            stage[key] = target(stage[key])
            if stage[key] is None:
                stage[key] = "base" if SINGLE[key] == "model" else None
    for key in SOURCES:
        if key in stage:
            stage[key] = _sources(stage[key], target)
    graders = stage.get("graders")
    for grader in graders if isinstance(graders, Series) else [graders]:
        if isinstance(grader, Section) and "model" in grader:
            grader["model"] = target(grader["model"])
    suites = stage.get("suites")
    if isinstance(suites, Section):
        for name in list(suites):
            suites[name] = _source(suites[name], target)
            if suites[name] is None:
                del suites[name]
    return stage


def _sources(value: Any, target: Any) -> Any:
    if not isinstance(value, Series):
        return _source(value, target)
    kept = Series(value.path, value.place)
    for item, place in zip(value, value.places, strict=True):
        if (renamed := _source(item, target)) is not None:
            kept.put(renamed, place)
    return kept


def _source(item: Any, target: Any) -> Any:
    if isinstance(item, Section) and "source" in item:
        item["source"] = target(item["source"])
        return item if item["source"] is not None else None
    return target(item) if isinstance(item, str) else item


def _known_previous(stage: Section, ids: set[str]) -> None:
    """Refuse `previous/x` where the repeat has no x, which would silently mean nothing."""
    texts = [(stage.get(key), stage.at(key)) for key in SINGLE]
    for key in SOURCES:
        value = stage.get(key)
        items = list(zip(value, value.places, strict=True)) if isinstance(value, Series) else [(value, stage.at(key))]
        texts += [(item.get("source") if isinstance(item, Section) else item, place) for item, place in items]
    suites = stage.get("suites")
    if isinstance(suites, Section):
        texts += [(item.get("source") if isinstance(item, Section) else item, suites.at(name)) for name, item in suites.items()]
    for text, place in texts:
        if isinstance(text, str) and text.startswith(PREVIOUS) and text.removeprefix(PREVIOUS) not in ids:
            raise UserError(f"{text!r} names no stage of this repeat.", place=place, fix=f"Its stages: {', '.join(sorted(ids))}.")
