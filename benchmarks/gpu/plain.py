"""The other side: transformers' `generate` and a padded GRPO step on its model, as TRL does both by default.

TRL itself is not needed and not measured: the generation is the one it calls, the update is its default without what only costs
it (autocast over fp32 weights): a forward of whole padded rows with activations computed again, AdamW on bf16 weights.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.gpu.work import Size, reward
from posttrain.core.types import Completion

ROWS = 8
"""Of one forward and backward: TRL's default."""


def generate(model: PreTrainedModel, prompts: Sequence[array[int]], size: Size, new: int) -> Tensor:
    """Prompts and answers, (rows, tokens). Temperature 1 over the whole vocabulary."""
    any_model: Any = model.eval()
    ids = torch.tensor([list(prompt) for prompt in prompts for _ in range(size.samples)], device=model.device)
    with torch.inference_mode():
        written: Tensor = any_model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=new,
            eos_token_id=None,
            pad_token_id=0,
        )
    return written


def logprobs_of(model: PreTrainedModel, ids: Tensor, read: int) -> Tensor:
    """Of every token after the first `read`, (rows, new)."""
    logits = model(input_ids=ids, use_cache=False).logits[:, read - 1 : -1].float()
    return logits.log_softmax(-1).gather(2, ids[:, read:, None])[..., 0]


@torch.no_grad()
def gap(model: PreTrainedModel, prompts: Sequence[array[int]], done: Sequence[Completion], samples: int) -> float:
    """Between the log-probabilities that some answers were written with and those of a plain forward: the mean distance."""
    found = []
    for i in range(0, len(done), max(1, len(done) // 8)):
        prompt, one = prompts[i // samples], done[i]
        wanted = logprobs_of(model, torch.tensor([[*prompt, *one.tokens]], device=model.device), len(prompt))[0]
        found.append((torch.tensor(one.logprobs, device=model.device) - wanted).abs().mean())
    return float(torch.stack(found).mean())


def grpo_round(model: PreTrainedModel, optimizer: torch.optim.Optimizer, prompts: Sequence[array[int]], size: Size) -> None:
    """Sample, grade, one optimizer step: the ratio of probabilities is 1, so the loss is advantage times log-probability."""
    ids = generate(model, prompts, size, size.new).clone()
    rewards = torch.tensor([reward(row) for row in ids[:, size.read :].tolist()], device=ids.device).view(-1, size.samples)
    advantages = ((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)).flatten()
    model.train()
    model.gradient_checkpointing_enable()
    for rows in torch.arange(len(ids), device=ids.device).split(ROWS):
        loss = -(advantages[rows, None] * logprobs_of(model, ids[rows], size.read)).sum() / (len(ids) * size.new)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    model.gradient_checkpointing_disable()
