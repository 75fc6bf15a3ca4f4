"""How far a student's next token is from its teacher's, and the gradient of that, without all logits at once.

Reverse KL(student‖teacher) makes the student avoid what the teacher would not say (MiniLLM, arXiv:2306.08543, whose
single-step part this is: tokens already written are not credited with later ones), forward KL makes it cover all the
teacher says, and the generalised Jensen-Shannon divergence lies between (GKD, arXiv:2306.13649, section 2). Each
can be taken over the whole vocabulary, over the teacher's likeliest tokens with all others as one outcome (a lower bound:
merging outcomes never raises a divergence), or, for the reverse KL, from the sampled token alone as a score function, whose
mean over the student's own samples is the exact gradient. Fails where the vocabularies differ, which nothing here can see; and
the reverse KL fails where the student all but never writes what the teacher would: a token of no probability has no pull, so
the student drifts among tokens neither means, while its KL per token falls. It must first have learnt the teacher's form.
Letters: L trained tokens, T rows of a tile, V vocabulary, O outcomes, K likeliest tokens, E width (of each model its own).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

TILE = 64
CHUNK = 512
"""Rows of logits in one matrix product: the student's are overwritten by their gradient and kept for the backward, the
teacher's are taken again for the next chunk."""

Terms = tuple[Tensor, Tensor]
"""value_T, and pull_TO = q · ∂D/∂q for student probabilities q. The gradient on scaled logits is pull - q · Σ pull."""


def reverse_kl(student_TO: Tensor, teacher_TO: Tensor) -> Terms:
    """KL(student‖teacher) of log-probabilities."""
    pull = student_TO.exp() * (student_TO - teacher_TO)
    return pull.sum(-1), pull


def forward_kl(student_TO: Tensor, teacher_TO: Tensor) -> Terms:
    """KL(teacher‖student)."""
    teacher = teacher_TO.exp()
    return (teacher * (teacher_TO - student_TO)).sum(-1), -teacher


def jensen_shannon(student_TO: Tensor, teacher_TO: Tensor, *, beta: float) -> Terms:
    """β·KL(teacher‖m) + (1-β)·KL(student‖m) with m = β·teacher + (1-β)·student. At β near 0 it is β times the forward KL, near
    1 it is 1-β times the reverse KL; it is bounded, so a token the teacher excludes cannot blow it up."""
    mixture = torch.logaddexp(teacher_TO + math.log(beta), student_TO + math.log1p(-beta))
    lean = (1 - beta) * student_TO.exp() * (student_TO - mixture)
    return beta * (teacher_TO.exp() * (teacher_TO - mixture)).sum(-1) + lean.sum(-1), lean


Divergence = Callable[[Tensor, Tensor], Terms]


def divergence(name: str, beta: float) -> Divergence:
    measures: dict[str, Divergence] = {
        "reverse_kl": reverse_kl,
        "forward_kl": forward_kl,
        "jsd": partial(jensen_shannon, beta=beta),
    }
    return measures[name]


TileLoss = Callable[[Tensor, Tensor, Tensor], Terms]
"""(student_TV, teacher_TV log-probabilities, target_T) -> value_T, gradient_TV on the student's scaled logits."""


def over_vocabulary(student_TV: Tensor, teacher_TV: Tensor, target_T: Tensor, *, measure: Divergence) -> Terms:
    value, pull = measure(student_TV, teacher_TV)
    return value, pull - student_TV.exp() * pull.sum(-1, keepdim=True)


def over_likeliest(student_TV: Tensor, teacher_TV: Tensor, target_T: Tensor, *, measure: Divergence, count: int) -> Terms:
    """Over the teacher's `count` likeliest tokens and, as one outcome, all the others."""
    top = teacher_TV.topk(count, dim=-1).indices
    student, teacher = outcomes(student_TV, top), outcomes(teacher_TV, top)
    value, pull = measure(student, teacher)
    total = pull.sum(-1, keepdim=True)
    # a token of the rest takes its share p/q of what pulls the rest; those named are then written over
    gradient = (student_TV - student[:, -1:]).exp() * pull[:, -1:] - student_TV.exp() * total
    return value, gradient.scatter(1, top, (pull - student.exp() * total)[:, :-1])


def outcomes(logprobs_TV: Tensor, top_TK: Tensor) -> Tensor:
    """Log-probabilities (T, K+1) of the named tokens and, last, of all others together."""
    rest = logprobs_TV.scatter(1, top_TK, -math.inf).logsumexp(-1, keepdim=True)
    return torch.cat([logprobs_TV.gather(1, top_TK), rest], -1)


def of_the_sample(student_TV: Tensor, teacher_TV: Tensor, target_T: Tensor) -> Terms:
    """log student - log teacher of the written token, as a cost that moves that token alone: policy gradient with the
    per-token advantage log teacher - log student and no discount (thinkingmachines.ai/blog/on-policy-distillation)."""
    cost = (student_TV - teacher_TV).gather(1, target_T[:, None])
    return cost[:, 0], (-cost * student_TV.exp()).scatter_add(1, target_T[:, None], cost)


def tile_loss(over: str, measure: Divergence, count: int) -> TileLoss:
    losses: dict[str, TileLoss] = {
        "vocabulary": partial(over_vocabulary, measure=measure),
        "top_k": partial(over_likeliest, measure=measure, count=count),
        "sampled": of_the_sample,
    }
    return losses[over]


class Distilled(NamedTuple):
    """One value a trained token, in nats; only value_L carries a gradient. `agreement` is 1 where both would choose the same."""

    value_L: Tensor
    logprobs_L: Tensor
    entropy_L: Tensor
    reverse_kl_L: Tensor
    agreement_L: Tensor


class HeadDivergence(torch.autograd.Function):
    """Student's hidden (L, E) and head (V, E), teacher's hidden and head, target (L) -> the fields of Distilled.

    Log-probabilities are of softmax(hidden · headᵀ / temperature), in fp32 over a tile of rows at a time. `keep` says
    whether a backward will come.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        target: Tensor,
        loss: TileLoss,
        temperature: float,
        keep: bool,
    ) -> tuple[Tensor, ...]:
        exact = torch.promote_types(hidden.dtype, torch.float32)
        found = [torch.empty(len(hidden), dtype=exact, device=hidden.device) for _ in Distilled._fields]
        rows = min(CHUNK, len(hidden))
        teacher_logits = teacher_hidden.new_empty(rows, len(teacher_weight))
        kept: list[Tensor] = []
        for first in range(0, len(hidden), CHUNK):
            part = slice(first, min(first + CHUNK, len(hidden)))
            logits = kept[0] if kept and not keep else hidden.new_empty(rows, len(weight))
            torch.mm(hidden[part], weight.T, out=logits[: part.stop - first])
            torch.mm(teacher_hidden[part], teacher_weight.T, out=teacher_logits[: part.stop - first])
            if keep or not kept:
                kept.append(logits)
            for start in range(first, part.stop, TILE):
                tile, place = slice(start, min(start + TILE, part.stop)), slice(start - first, min(start + TILE, part.stop) - first)
                student = (logits[place].to(exact) / temperature).log_softmax(-1)
                teacher = (teacher_logits[place].to(exact) / temperature).log_softmax(-1)
                value, gradient = loss(student, teacher, target[tile])
                for field, values in zip(found, (value, *statistics(student, teacher, target[tile])), strict=True):
                    field[tile] = values
                if keep:
                    logits[place] = (gradient / temperature).to(logits.dtype)
        ctx.save_for_backward(hidden, weight)
        ctx.gradients = kept if keep else None
        ctx.mark_non_differentiable(*found[1:])
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        scale = grads[0][:, None].to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        exact = torch.promote_types(weight.dtype, torch.float32)
        grad_weight = torch.zeros_like(weight, dtype=exact) if ctx.needs_input_grad[1] else None
        for first, kept in zip(range(0, len(hidden), CHUNK), ctx.gradients, strict=True):
            part = slice(first, min(first + CHUNK, len(hidden)))
            gradient = kept[: part.stop - first]
            if grad_hidden is not None:
                torch.mul(gradient @ weight, scale[part], out=grad_hidden[part])
            if grad_weight is not None:
                grad_weight += gradient.T @ (hidden[part] * scale[part])
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None, None, None, None


def statistics(student_TV: Tensor, teacher_TV: Tensor, target_T: Tensor) -> tuple[Tensor, ...]:
    """What is measured whatever the loss is: the fields of Distilled after the first."""
    probabilities = student_TV.exp()
    return (
        student_TV.gather(1, target_T[:, None])[:, 0],
        -(probabilities * student_TV).sum(-1),
        (probabilities * (student_TV - teacher_TV)).sum(-1),
        (student_TV.argmax(-1) == teacher_TV.argmax(-1)).to(student_TV.dtype),
    )


def distilled(
    hidden_LE: Tensor,
    weight_VE: Tensor,
    teacher_hidden_LE: Tensor,
    teacher_weight_VE: Tensor,
    target_L: Tensor,
    loss: TileLoss,
    temperature: float,
) -> Distilled:
    """Differentiable in the student's hidden states and head, unless under no_grad. Where one vocabulary is padded further
    than the other, both softmaxes are over the tokens they have in common."""
    shared = min(len(weight_VE), len(teacher_weight_VE))
    found = HeadDivergence.apply(  # type: ignore[no-untyped-call]
        hidden_LE,
        weight_VE[:shared],
        teacher_hidden_LE,
        teacher_weight_VE[:shared],
        target_L,
        loss,
        temperature,
        torch.is_grad_enabled(),
    )
    return Distilled(*found)
