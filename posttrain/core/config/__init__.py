"""Settings: frozen dataclasses of plain values with a docstring under each field, which is also its help.

`__pydantic_config__` is read by pydantic's TypeAdapter at the YAML border (pipeline/parse.py): unknown keys are refused
and the docstrings become descriptions in the JSON schema. Checks that need one dataclass live in its __post_init__ and
raise ValueError; checks that need the whole recipe live in pipeline/check.py.
"""

from posttrain.core.config.average import AverageConfig
from posttrain.core.config.data import DataSource, PreferenceSource, TaskSource
from posttrain.core.config.distill import DistillConfig, TeachConfig
from posttrain.core.config.endpoint import EndpointConfig
from posttrain.core.config.environments import (
    BfclEnvironment,
    CalculatorTool,
    EnvironmentConfig,
    EpisodeConfig,
    GymnasiumEnvironment,
    OpenEnvEnvironment,
    OwnEnvironment,
    PythonTool,
    ReasoningGymEnvironment,
    SearchTool,
    ShopEnvironment,
    SqlTool,
    TextArenaEnvironment,
    ToolConfig,
    ToolsEnvironment,
)
from posttrain.core.config.graders import (
    CodeGrader,
    FormatGrader,
    FunctionGrader,
    GraderConfig,
    InstructionGrader,
    LanguageGrader,
    LengthGrader,
    LookupGrader,
    MathGrader,
    RefusalGrader,
    RewardModelGrader,
)
from posttrain.core.config.instruction import Constraint
from posttrain.core.config.judge import JudgeGrader, JudgeModel
from posttrain.core.config.midtrain import ContextConfig, MidtrainConfig, TextSource
from posttrain.core.config.ppo import PpoConfig
from posttrain.core.config.preference import DpoConfig, OnlineDpoConfig, PairLoss, PreferencesConfig
from posttrain.core.config.recipe import STAGE_KINDS, Recipe, Stage, StageConfig
from posttrain.core.config.reward_model import RewardModelConfig
from posttrain.core.config.stages import BestOfNConfig, DiagnoseConfig, EvaluateConfig, KeepConfig, SamplingConfig
from posttrain.core.config.training import (
    GrpoConfig,
    KlConfig,
    LoraConfig,
    PolicyGradientConfig,
    RolloutConfig,
    SftConfig,
    TrainConfig,
)

__all__ = [
    "STAGE_KINDS",
    "AverageConfig",
    "BestOfNConfig",
    "BfclEnvironment",
    "CalculatorTool",
    "CodeGrader",
    "Constraint",
    "ContextConfig",
    "DataSource",
    "DiagnoseConfig",
    "DistillConfig",
    "DpoConfig",
    "EndpointConfig",
    "EnvironmentConfig",
    "EpisodeConfig",
    "EvaluateConfig",
    "FormatGrader",
    "FunctionGrader",
    "GraderConfig",
    "GrpoConfig",
    "GymnasiumEnvironment",
    "InstructionGrader",
    "JudgeGrader",
    "JudgeModel",
    "KeepConfig",
    "KlConfig",
    "LanguageGrader",
    "LengthGrader",
    "LookupGrader",
    "LoraConfig",
    "MathGrader",
    "MidtrainConfig",
    "OnlineDpoConfig",
    "OpenEnvEnvironment",
    "OwnEnvironment",
    "PairLoss",
    "PolicyGradientConfig",
    "PpoConfig",
    "PreferenceSource",
    "PreferencesConfig",
    "PythonTool",
    "ReasoningGymEnvironment",
    "Recipe",
    "RefusalGrader",
    "RewardModelConfig",
    "RewardModelGrader",
    "RolloutConfig",
    "SamplingConfig",
    "SearchTool",
    "SftConfig",
    "ShopEnvironment",
    "SqlTool",
    "Stage",
    "StageConfig",
    "TaskSource",
    "TeachConfig",
    "TextArenaEnvironment",
    "TextSource",
    "ToolConfig",
    "ToolsEnvironment",
    "TrainConfig",
]
