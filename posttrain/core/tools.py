"""Tools that built-in demonstrations show and environments offer, word for word the same: what a model learnt to call is there."""

from __future__ import annotations

from posttrain.core.types import Tool

CALCULATOR = Tool(
    "calculator",
    "Work out arithmetic.",
    {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)
