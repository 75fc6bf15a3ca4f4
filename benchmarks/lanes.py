"""Every lane: what work it is, which programs do it, and how far ahead we want to be. The visible list of what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Arm:
    """One program of a lane. `python` names the environment it runs in; `tuning` lists settings that a sweep chooses among."""

    worker: str
    python: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tuning: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Lane:
    """`arms` begins with ours; every other arm is compared with it. `reach` and `aim` are ratios by the name of the arm."""

    title: str
    unit: str
    case: str
    sizes: Mapping[str, int]
    arms: Mapping[str, Arm]
    reach: Mapping[str, float] = field(default_factory=dict)
    aim: float | None = None
    memory: float | None = None
    reference: str | None = None
    bound: str | None = None
    blocks: int = 5
    seconds: float = 20
    quick: Mapping[str, int] | None = None


LORA = {"load": "bfloat16", "keep_memory": True, "checkpointing": False}
FULL = {"keep_memory": True, "checkpointing": False, "full": True}
"""Full training keeps fp32 weights when tuned as well: a model in bf16 would be trained without fp32 masters, another class."""

LAYOUTS = tuple(
    {"per_device": rows, "padding_free": flat, "fp32_products": products}
    for rows, flat, products in (
        (8, False, "medium"),
        (4, False, "medium"),
        (16, False, "medium"),
        (8, True, "medium"),
        (8, False, "highest"),
    )
)

SFT = {"batch": 16, "steps": 4}

LANES: dict[str, Lane] = {
    "sft-lora": Lane(
        title="SFT, LoRA",
        unit="useful tokens",
        case="sft",
        sizes=SFT,
        arms={
            "ours": Arm("ours-sft", "ours"),
            "trl": Arm("trl-sft", "trl"),
            "trl-tuned": Arm("trl-sft", "trl", LORA, LAYOUTS),
        },
        reach={"trl": 5, "trl-tuned": 3},
        aim=8,
        memory=0.5,
        reference="reference-sft",
        bound="sft",
        blocks=10,
        quick={"batch": 8, "steps": 1},
    ),
    "aa": Lane(
        title="A/A control: SFT, LoRA, ours beside itself",
        unit="useful tokens",
        case="sft",
        sizes=SFT,
        arms={"ours": Arm("ours-sft", "ours"), "ours-again": Arm("ours-sft", "ours")},
        reference="reference-sft",
        blocks=10,
    ),
}
