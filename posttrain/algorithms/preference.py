"""Losses that learn from preferences: DPO and its relatives, one value per pair.  Letters: P pairs, R answers.

Every loss sees an answer as three numbers: its log-probability under the policy and under the reference, each summed over
the answer's counted tokens, and how many tokens those are. The implicit reward is beta · log(policy / reference). A pair
that is preferred with probability p counts as p times itself and 1 - p times its reverse (`expected`), which makes DPO the
cross-entropy with a soft label.

All of them fail alike where the pairs are far from what the policy writes: the margin then grows by pushing the rejected
answer down, and the chosen one falls with it. A term in the chosen answer's likelihood (`nll`) holds against that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

MOST_CERTAIN = -1e-7
"""Largest mean log-probability whose odds are still a number in fp32."""


@dataclass(frozen=True)
class Answers:
    """R answers (or one side of R pairs). `logprobs` and `reference` are sums over counted tokens, in nats, the first with a
    gradient, the second 0 where a method has no reference; `lengths` are the numbers of those tokens, at least 1."""

    logprobs: Tensor
    reference: Tensor
    lengths: Tensor

    def __getitem__(self, index: Tensor) -> Answers:
        return Answers(self.logprobs[index], self.reference[index], self.lengths[index])

    @property
    def ratio(self) -> Tensor:
        """log(policy / reference) of the whole answer."""
        return self.logprobs - self.reference

    @property
    def mean_ratio(self) -> Tensor:
        """log(policy / reference) per token."""
        return self.ratio / self.lengths

    @property
    def mean(self) -> Tensor:
        """Log-probability per token."""
        return self.logprobs / self.lengths


def dpo(chosen: Answers, rejected: Answers, *, beta: float) -> Tensor:
    """arXiv:2305.18290, equation 7: -log σ(β (r_c - r_r)) with r = log(policy / reference).

    Assumes Bradley–Terry preferences. Without label noise nothing bounds the margin, so it overfits pairs that always agree.
    Its ratios are sums, so where rejected answers are long (cut off, rambling) it learns to be short above all: a model asked
    to add two or three numbers left the third one out (`dpo_norm` and `simpo` compare by token).
    """
    return -logsigmoid(beta * (chosen.ratio - rejected.ratio))


def dpo_norm(chosen: Answers, rejected: Answers, *, beta: float) -> Tensor:
    """Length-normalised DPO (Tülu 3, arXiv:2411.15124, section 5): equation 7 with r per token, so that a long answer has no
    larger margin to win. Needs a beta some tens of times that of DPO (the paper's is 5)."""
    return -logsigmoid(beta * (chosen.mean_ratio - rejected.mean_ratio))


def ipo(chosen: Answers, rejected: Answers, *, beta: float) -> Tensor:
    """arXiv:2310.12036, equation 17: (r_c - r_r - 1 / (2τ))² with τ = beta: a margin to reach and not to pass.

    r is the log-ratio per token, as TRL 1.16 has it on the authors' word; the paper writes it for whole answers, where
    the square grows with the length.
    """
    return (chosen.mean_ratio - rejected.mean_ratio - 1 / (2 * beta)).square()


def cdpo(chosen: Answers, rejected: Answers, *, beta: float, label_smoothing: float) -> Tensor:
    """Conservative DPO (Mitchell, 2023, "A note on DPO with noisy preferences"): labels are wrong with probability
    ε = label_smoothing, so the loss is (1 - ε) ℓ(c, r) + ε ℓ(r, c). Its best margin is finite: log((1 - ε) / ε) / β."""
    plain, flipped = dpo(chosen, rejected, beta=beta), dpo(rejected, chosen, beta=beta)
    return (1 - label_smoothing) * plain + label_smoothing * flipped


def robust(chosen: Answers, rejected: Answers, *, beta: float, label_smoothing: float) -> Tensor:
    """Robust DPO (arXiv:2403.00409): ((1 - ε) ℓ(c, r) - ε ℓ(r, c)) / (1 - 2ε), whose mean over labels flipped
    with probability ε < 1/2 is the DPO loss on clean labels. Unbiased but not bounded below: it needs ε to be right."""
    plain, flipped = dpo(chosen, rejected, beta=beta), dpo(rejected, chosen, beta=beta)
    return ((1 - label_smoothing) * plain - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def simpo(chosen: Answers, rejected: Answers, *, beta: float, gamma: float) -> Tensor:
    """arXiv:2405.14734, equation 6: -log σ(β (m_c - m_r) - γ) with m the policy's log-probability per token.

    No reference, so nothing holds the policy but the learning rate; the paper's is 3e-7 to 1e-6 for all weights.
    """
    return -logsigmoid(beta * (chosen.mean - rejected.mean) - gamma)


def orpo(chosen: Answers, rejected: Answers, *, beta: float) -> Tensor:
    """arXiv:2403.07691, equation 7, times beta (the paper's λ): -β log σ(log odds_c - log odds_r), odds = p / (1 - p) with
    log p the log-probability per token (equation 3). The paper's whole loss (equation 6) adds the chosen answer's `nll`.

    No reference. Meant to stand in for SFT: on a model that already writes such answers the odds term alone does little.
    """
    return -beta * logsigmoid(log_odds(chosen.mean) - log_odds(rejected.mean))


def log_odds(logprob: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p, which is taken to be at most MOST_CERTAIN."""
    bounded = logprob.clamp(max=MOST_CERTAIN)
    return bounded - torch.log(-torch.expm1(bounded))


def kto(
    answers: Answers,
    desirable: Tensor,
    undesirable: Tensor,
    divergence: Tensor,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Tensor:
    """arXiv:2402.01306, section 4, one value per answer: λ_D (1 - σ(β (r - z))) for a desirable answer and
    λ_U (1 - σ(β (z - r))) for an undesirable one, z = `divergence` (see `mismatched_kl`).

    `desirable` and `undesirable` (R) say how far an answer is either: 1 and 0, or probabilities. Needs no pairs, but both
    kinds; the paper keeps λ_D n_D / (λ_U n_U) between 1 and about 4/3. It saturates: answers far from the policy teach nothing.
    """
    reward = beta * (answers.ratio - divergence)
    gain = desirable_weight * desirable * (1 - torch.sigmoid(reward))
    return gain + undesirable_weight * undesirable * (1 - torch.sigmoid(-reward))


def mismatched_kl(mismatched: Answers) -> Tensor:
    """KTO's z (arXiv:2402.01306, section 4): the mean of log(policy / reference) over a batch of answers that belong to other
    prompts, at least 0, without a gradient. Biased, as the paper says, and noisy for small batches."""
    return mismatched.ratio.detach().mean().clamp(min=0)


def nll(answers: Answers) -> Tensor:
    """Negative log-likelihood per token of each answer: Llama 3 adds 0.2 times the chosen one's (arXiv:2407.21783, section
    4.1.4), ORPO 1 times."""
    return -answers.mean


PairLoss = Callable[..., Tensor]


def expected(loss: PairLoss, chosen: Answers, rejected: Answers, probability: Tensor, **settings: float) -> Tensor:
    """A loss of pairs under soft labels: p ℓ(chosen, rejected) + (1 - p) ℓ(rejected, chosen), p = probability (P)."""
    return probability * loss(chosen, rejected, **settings) + (1 - probability) * loss(rejected, chosen, **settings)


@dataclass(frozen=True)
class Method:
    """A loss with the settings of its paper. `reference`: it needs the reference's log-probs. `per_token`: its implicit
    reward is. `nll`: the weight of the chosen answer's likelihood. `paired`: it takes (chosen, rejected), else single answers."""

    loss: PairLoss
    settings: Mapping[str, float]
    reference: bool = True
    per_token: bool = False
    nll: float = 0.0
    paired: bool = True

    def rewards(self, answers: Answers, beta: float) -> Tensor:
        """The implicit rewards of answers, without a gradient: what the loss compares."""
        value = answers.mean_ratio if self.per_token else answers.ratio
        return beta * value.detach()


def _method(loss: PairLoss, settings: Mapping[str, float], **more: bool | float) -> Method:
    return Method(loss, MappingProxyType(dict(settings)), **more)  # type: ignore[arg-type]


LOSSES: dict[str, Method] = {
    "dpo": _method(dpo, {"beta": 0.1}),
    "dpo_norm": _method(dpo_norm, {"beta": 5.0}, per_token=True),
    "ipo": _method(ipo, {"beta": 0.1}, per_token=True),
    "cdpo": _method(cdpo, {"beta": 0.1, "label_smoothing": 0.1}),
    "robust": _method(robust, {"beta": 0.1, "label_smoothing": 0.1}),
    "simpo": _method(simpo, {"beta": 2.0, "gamma": 1.0}, reference=False, per_token=True),
    "orpo": _method(orpo, {"beta": 0.1}, reference=False, per_token=True, nll=1.0),
    "kto": _method(kto, {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}, paired=False),
}
