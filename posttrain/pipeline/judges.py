"""What `check` can say of a recipe's judges before anything runs: whether they may train, and how often they will be asked."""

from __future__ import annotations

from posttrain.core.config import EvaluateConfig, JudgeGrader, Recipe, RolloutConfig, Stage


def require_judges(recipe: Recipe, stage: Stage, config: JudgeGrader) -> str:
    """Refuse a judge that the stage may not learn from; else a remark on what it costs. Judges made by earlier stages are compared
    with their calibration when the stage begins."""
    if not isinstance(stage.config, EvaluateConfig):
        from posttrain.graders.judge.trust import require_trust

        ids = {each.id for each in recipe.stages}
        made_here = any(each.model in ids for each in config.models)
        require_trust(config, None if made_here else {"base": recipe.model})
    return cost(stage, config)


def cost(stage: Stage, config: JudgeGrader) -> str:
    if not isinstance(stage.config, RolloutConfig):
        return ""
    answers = stage.config.steps * stage.config.prompts_per_step * stage.config.samples_per_prompt
    each = 2 * (config.opponents if config.compare == "group" else 1) if config.compare else len(config.criteria)
    return f"{stage.id} asks each of its {len(config.models)} judge(s) up to {answers * each:,} times"
