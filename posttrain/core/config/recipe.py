"""A recipe: ordered stages, a model, where the recipe comes from and what it costs to choose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from posttrain.core.config.average import AverageConfig
from posttrain.core.config.checks import STRICT
from posttrain.core.config.distill import DistillConfig, TeachConfig
from posttrain.core.config.midtrain import MidtrainConfig
from posttrain.core.config.ppo import PpoConfig
from posttrain.core.config.preference import DpoConfig, OnlineDpoConfig, PreferencesConfig
from posttrain.core.config.reward_model import RewardModelConfig
from posttrain.core.config.stages import BestOfNConfig, DiagnoseConfig, EvaluateConfig
from posttrain.core.config.training import GrpoConfig, SftConfig

StageConfig = (
    SftConfig
    | GrpoConfig
    | PpoConfig
    | BestOfNConfig
    | EvaluateConfig
    | DiagnoseConfig
    | RewardModelConfig
    | MidtrainConfig
    | TeachConfig
    | DistillConfig
    | PreferencesConfig
    | DpoConfig
    | OnlineDpoConfig
    | AverageConfig
)

STAGE_KINDS: dict[str, type[StageConfig]] = {config.kind: config for config in get_args(StageConfig)}
"""Every kind of stage by its name, which is also the module in `stages/` that does its work."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a recipe. In YAML the settings of `config` stand beside `id` and `kind`."""

    id: str
    """Name of the stage, unique in the recipe: letters, digits, `-`, `_`, and `/` after a round."""
    config: StageConfig
    """Settings of the stage's kind."""

    @property
    def kind(self) -> str:
        return self.config.kind


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole post-training run, after references to files were made absolute and a scale was applied."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    """Name of the recipe, and of its run unless another is given."""
    source: str
    """The paper or post whose facts this recipe takes."""
    differs: Sequence[str] = ()
    """What differs from the source, one line each."""
    tradeoff: str
    """What choosing this recipe costs."""
    model: str
    """The model `base` stands for."""
    seed: int = 0
    """Root of all randomness."""
    stages: Sequence[Stage]
    """The steps, in order."""
    scale: str = ""
    """The scale that was applied, such as `tiny`; empty if none."""
    executor: Literal["local", "cluster"] = "local"
    """Where the scale asks to be run; `run` refuses `cluster`, for which there is no executor yet."""
