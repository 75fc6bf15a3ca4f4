"""Every lane: what work it is, which programs do it, and how far ahead we want to be. The visible list of what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Arm:
    """One program of a lane. `python` names the environment it runs in; `tuning` lists settings that a sweep chooses among.

    Where an `optional` program's environment is not installed, or the program does not run, the lane goes on without it and
    says why.
    """

    worker: str
    python: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tuning: tuple[Mapping[str, Any], ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Lane:
    """`arms` begins with ours; every other arm is compared with it.

    `reach` is the ratio we want at least, by arm, and `aim` the one we hope for; `at_most` is a bound on our own seconds a unit
    and `share` on our share of the roofline. `memory` is the most of the peer's peak memory that ours may be. `sizes` make the
    case, `quick` those of the short run (lanes without it are left out of that).
    """

    title: str
    unit: str
    case: str
    arms: Mapping[str, Arm]
    sizes: Mapping[str, int] = field(default_factory=dict)
    reach: Mapping[str, float] = field(default_factory=dict)
    aim: float | None = None
    at_most: float | None = None
    share: float | None = None
    memory: float | None = None
    reference: str | None = None
    bound: str | None = None
    blocks: int = 5
    seconds: float = 20
    quick: Mapping[str, int] | None = None


HEADLINE = 10
"""Blocks of the lanes whose figures are quoted."""

LORA = {"load": "bfloat16", "keep_memory": True, "checkpointing": False}
FULL = {"keep_memory": True, "checkpointing": False, "full": True}
"""Full training keeps fp32 weights when tuned as well: a model in bf16 would be trained without fp32 masters, another class."""


def layouts(sizes: tuple[int, ...], flat: bool = False) -> tuple[Mapping[str, Any], ...]:
    """Rows in one forward, with fp32 products done in bf16 or not; and rows side by side without padding."""
    padded = [{"per_device": rows, "fp32_products": "medium"} for rows in sizes]
    packed = [{"per_device": sizes[0], "padding_free": True, "fp32_products": "medium"}] if flat else []
    return (*padded, {"per_device": sizes[0], "fp32_products": "highest"}, *packed)


def trl(worker: str, tuned: Mapping[str, Any], tuning: tuple[Mapping[str, Any], ...], **default: Any) -> dict[str, Arm]:
    """TRL as it comes, and at the best of `tuning`."""
    return {"trl": Arm(worker, "trl", default), "trl-tuned": Arm(worker, "trl", tuned, tuning)}


TUNED_GENERATE = {"keep_memory": True, "inference_mode": True}
GENERATORS = {
    "ours": Arm("ours-generate", "ours"),
    "generate": Arm("transformers-generate", "trl"),
    "generate-tuned": Arm("transformers-generate", "trl", TUNED_GENERATE, ({}, {"rows": 64}, {"rows": 32}, {"cache": "static"})),
    "continuous": Arm(
        "transformers-continuous", "trl", {"keep_memory": True}, ({"batch_tokens": 512}, {"batch_tokens": 256}), optional=True
    ),
    "vllm": Arm("vllm-generate", "vllm", {"rows": 256}, optional=True),
}
GENERATION: dict[str, Any] = {
    "unit": "tokens",
    "case": "generation",
    "arms": GENERATORS,
    "reach": {"generate": 4, "generate-tuned": 2.5, "continuous": 4, "vllm": 1.3},
    "aim": 2.5,
    "reference": "reference-generate",
    "bound": "generation",
}
ROUNDS: dict[str, Any] = {
    "unit": "steps",
    "case": "rounds",
    "reach": {"trl": 6, "trl-tuned": 3},
    "aim": 10,
    "memory": 0.5,
    "reference": "reference-rounds",
    "seconds": 10,
}
SFT = {"batch": 16, "steps": 4}

LANES: dict[str, Lane] = {
    "sft-lora": Lane(
        title="SFT, LoRA",
        unit="useful tokens",
        case="sft",
        sizes=SFT,
        arms={"ours": Arm("ours-sft", "ours"), **trl("trl-sft", LORA, layouts((8, 4, 16), flat=True))},
        reach={"trl": 5, "trl-tuned": 3},
        aim=8,
        memory=0.5,
        share=0.35,
        reference="reference-sft",
        bound="sft",
        blocks=HEADLINE,
        quick={"batch": 8, "steps": 1},
    ),
    "aa": Lane(
        title="A/A control: SFT, LoRA, ours beside itself",
        unit="useful tokens",
        case="sft",
        sizes=SFT,
        arms={"ours": Arm("ours-sft", "ours"), "ours-again": Arm("ours-sft", "ours")},
        blocks=HEADLINE,
    ),
    "sft-full": Lane(
        title="SFT, all weights",
        unit="useful tokens",
        case="sft",
        sizes={"batch": 16, "steps": 2},
        arms={
            "ours": Arm("ours-sft", "ours", {"full": True}),
            **trl("trl-sft", FULL, layouts((8, 16), flat=True), full=True),
        },
        reach={"trl": 6, "trl-tuned": 3},
        aim=10,
        memory=0.7,
        share=0.35,
        reference="reference-sft",
        bound="sft",
        quick={"batch": 8, "steps": 1},
    ),
    "dpo-lora": Lane(
        title="DPO, LoRA, the reference's log-probs included",
        unit="pairs",
        case="dpo",
        sizes={"batch": 8, "steps": 3},
        arms={"ours": Arm("ours-dpo", "ours"), **trl("trl-dpo", LORA, layouts((8, 4)))},
        reach={"trl": 4, "trl-tuned": 2.5},
        aim=8,
        reference="reference-dpo",
    ),
    "rollouts-64": Lane(title="Rollouts, 8 prompts x 8, recorded lengths", sizes={"prompts": 8, "samples": 8}, **GENERATION),
    "rollouts-256": Lane(title="Rollouts, 32 prompts x 8, recorded lengths", sizes={"prompts": 32, "samples": 8}, **GENERATION),
    "rollouts-64-fixed": Lane(
        title="Rollouts, 8 prompts x 8, 64 tokens each",
        sizes={"prompts": 8, "samples": 8, "new": 64},
        quick={"prompts": 8, "samples": 8, "new": 16},
        **GENERATION,
    ),
    "rollouts-256-fixed": Lane(
        title="Rollouts, 32 prompts x 8, 64 tokens each",
        sizes={"prompts": 32, "samples": 8, "new": 64},
        share=0.35,
        **GENERATION,
    ),
    "prefill": Lane(
        title="Prompts alone: 64 of them, one token each",
        unit="prompts",
        case="generation",
        sizes={"prompts": 64, "samples": 1, "new": 1},
        arms={"ours": Arm("ours-generate", "ours"), "generate": Arm("transformers-generate", "trl", TUNED_GENERATE)},
        share=0.4,
        reference="reference-generate",
        bound="generation",
        seconds=10,
    ),
    "grpo-4x8": Lane(
        title="GRPO step, 4 prompts x 8 x 96 tokens",
        sizes={"prompts": 4, "samples": 8, "new": 96},
        arms={"ours": Arm("ours-grpo", "ours"), **trl("trl-grpo", LORA, layouts((32, 8)))},
        blocks=HEADLINE,
        **ROUNDS,
    ),
    "grpo-16x8": Lane(
        title="GRPO step, 16 prompts x 8 x 64 tokens",
        sizes={"prompts": 16, "samples": 8, "new": 64},
        arms={"ours": Arm("ours-grpo", "ours"), **trl("trl-grpo", LORA, layouts((32, 8)))},
        **ROUNDS,
    ),
    "ppo": Lane(
        title="PPO step beside our own GRPO step, 4 prompts x 8 x 96 tokens",
        unit="steps",
        case="rounds",
        sizes={"prompts": 4, "samples": 8, "new": 96},
        arms={"ours": Arm("ours-ppo", "ours"), "our-grpo": Arm("ours-grpo", "ours")},
        reach={"our-grpo": 1 / 1.6},
        aim=1 / 1.3,
    ),
    "start": Lane(
        title="From the command to the first step's figures, a toy model; ours evaluates it on one task before",
        unit="starts",
        case="start",
        arms={
            "ours": Arm(
                "command",
                "ours",
                {
                    "command": ["{posttrain}", "run", "{recipe}", "--runs", "{scratch}/runs"],
                    "file": "runs/start/train/metrics.jsonl",
                    "until": "\n",
                },
            ),
            "trl": Arm(
                "command",
                "trl",
                {
                    "command": [
                        *("{trl}", "sft", "--model_name_or_path", "{model}", "--dataset_name", "{data}", "--max_steps", "20"),
                        *("--per_device_train_batch_size", "8", "--logging_steps", "1", "--output_dir", "{scratch}/out"),
                        *("--use_cpu", "--report_to", "none", "--save_strategy", "no"),
                    ],
                    "until": "'loss'",
                },
            ),
        },
        reach={"trl": 2},
        seconds=0,
    ),
    "help": Lane(
        title="--help",
        unit="calls",
        case="start",
        arms={
            "ours": Arm("command", "ours", {"command": ["{posttrain}", "--help"]}),
            "trl": Arm("command", "trl", {"command": ["{trl}", "--help"]}),
        },
        at_most=0.3,
        seconds=3,
    ),
}
