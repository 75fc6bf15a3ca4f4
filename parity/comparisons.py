"""What is compared with what: each comparison runs one of our methods and TRL's on the same case.

The settings are the same numbers on both sides, under each side's names. Where the formulas differ on purpose, `notes` say the
difference and how it was undone, with what factor; docs/parity.md says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from parity import cases, ours, theirs
from parity.cases import Outcome
from posttrain.algorithms.family import FAMILY
from posttrain.algorithms.preference import LOSSES


@dataclass(frozen=True)
class Comparison:
    """`method` is a key of FAMILY or LOSSES where there is one."""

    name: str
    method: str
    case: Callable[[int], Any]
    ours: Callable[[Any], Outcome]
    theirs: Callable[[Any], Outcome]
    notes: tuple[str, ...] = ()


NOT_COMPARED = {
    "reinforce_pp": "TRL has no batch-normalised advantage with a group baseline",
}
"""Methods of ours without a counterpart in TRL 1.16, by reason."""

# ------------------------------------------------------------------------------------------------ GRPO's family

DIVIDES = "TRL divides by s + 1e-4, we by s + 1e-6 (s: the group's standard deviation): ours times (s + 1e-6) / (s + 1e-4)"
CORRECTION = "TRL's use_bias_correction_kl, on by default, multiplies k3 by the policy's ratio: off"
CORRECTED = "TRL's k3 times the ratio, its default: at ratio 1 its value is our k3's and its gradient our k2's"
SUMMED = "TRL's value has one ratio an answer, ours one a token: the value (not the gradient) is taken as their mean"
REWARD_KL = "TRL's leave-one-out takes in the KL, ours is centred in the group: our coefficient is 4/3 of TRL's (groups of 4)"
UNSCORED = "TRL counts a sample without a reward among the rows, with advantage 0, we leave it out: ours times 11/12"
CISPO_BOUND = "TRL's epsilon_high is the bound of the ratio itself, ours its distance from 1: TRL is given 1 + ours"

OF_TRL: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "dapo": {"loss_type": "dapo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    "cispo": {"loss_type": "cispo"},
}
"""TRL's settings for each member of the family, but for the ranges, which are the paper's as FAMILY has them."""


@dataclass(frozen=True)
class Stage:
    """How far a batch is from the policy that learns from it, and the weight of a KL, which is k3 in the loss as TRL has it."""

    name: str
    again: bool = False
    apart: bool = False
    kl: float = 0.0


FIRST = Stage("first update")
FIRST_APART = Stage("first update, other sampler", apart=True)
LATER = Stage("later updates", again=True)
APART = Stage("later updates, other sampler, KL", again=True, apart=True, kl=0.04)


def rl(algorithm: str, stage: Stage) -> Comparison:
    method = FAMILY[algorithm]
    high = 1 + method.clip_high if algorithm == "cispo" else method.clip_high
    noted = {DIVIDES: method.advantage == "group_normalised", CISPO_BOUND: algorithm == "cispo", CORRECTION: stage.kl > 0}
    their_settings = {**OF_TRL[algorithm], "epsilon": method.clip_low, "epsilon_high": high}
    return Comparison(
        f"{algorithm}, {stage.name}",
        algorithm,
        partial(cases.rollouts, moved=stage.again, apart=stage.apart),
        partial(ours.rl, settings=ours.RlSettings(algorithm, epochs=2 if stage.again else 1, kl=stage.kl)),
        partial(theirs.rl, again=stage.again, apart=stage.apart, beta=stage.kl, **their_settings),
        tuple(note for note, applies in noted.items() if applies),
    )


def of_special_cases() -> list[Comparison]:
    """A sample without a reward, what our other forms of the KL have to do with TRL's, and RLOO's first update."""
    k3, k2 = (ours.RlSettings("grpo", kl=0.04, kl_form=form) for form in ("k3_loss", "k2_loss"))
    plain, k1 = ours.RlSettings("rloo"), ours.RlSettings("rloo", kl=0.04 * 4 / 3, kl_form="k1_reward")
    whole = partial(cases.rollouts, holes=False)
    return [
        Comparison(
            "grpo, first update, one unscored",
            "grpo",
            partial(cases.rollouts, unscored=1),
            partial(ours.rl, settings=ours.RlSettings("grpo"), factor=11 / 12),
            partial(theirs.rl, again=False, apart=False, beta=0.0, loss_type="grpo"),
            (DIVIDES, UNSCORED),
        ),
        Comparison(
            "grpo, first update, corrected KL",
            "grpo",
            cases.rollouts,
            partial(ours.rl_value_and_gradient, value=k3, gradient=k2),
            partial(theirs.rl, again=False, apart=False, beta=0.04, bias_correction=True, loss_type="grpo"),
            (DIVIDES, CORRECTED),
        ),
        Comparison(
            "rloo, first update", "rloo", whole, partial(ours.rl_summed, settings=plain), partial(theirs.rloo, beta=0.0), (SUMMED,)
        ),
        Comparison(
            "rloo, first update, KL in the reward",
            "rloo",
            whole,
            partial(ours.rl_summed, settings=k1),
            partial(theirs.rloo, beta=0.04),
            (SUMMED, REWARD_KL),
        ),
    ]


# ------------------------------------------------------------------------------------------------ preferences, rewards, SFT

SMOOTHED = "TRL has no cDPO; its aot loss, which sorts over the batch, is cDPO where a batch is one pair: each pair alone"
LIKELIHOOD = "TRL's likelihood is a mean over the batch's tokens, ours over each answer's: each pair alone"
WEIGHTS = "TRL's mean is over all pairs, ours over prompts of the mean over a prompt's pairs: every prompt has as many"
PROMPT = "TRL's likelihood covers the prompt too: prompts of one token, which nothing predicts"


def preference(name: str, our: dict[str, Any], their: dict[str, Any], *notes: str) -> Comparison:
    """Ours beside DPOTrainer, which gets each pair alone where a note says how the two differ over a batch."""
    side = partial(theirs.dpo, singly=bool(notes), **their)
    return Comparison(name, our["loss"], cases.pairs, partial(ours.preferred, **our), side, notes)


def preferences() -> list[Comparison]:
    smooth = {"beta": 0.1, "label_smoothing": 0.1}
    aot = {"loss_type": ["aot"], **smooth}
    whole = partial(cases.pairs, whole=True)
    odds, both = partial(theirs.orpo, singly=False, likelihood=False), partial(theirs.orpo, singly=True, likelihood=True)
    weights: dict[str, Any] = {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.3}
    return [
        preference("dpo", {"loss": "dpo", "beta": 0.1}, {"loss_type": ["sigmoid"], "beta": 0.1}),
        preference("dpo_norm", {"loss": "dpo_norm", "beta": 5.0}, {"loss_type": ["sigmoid_norm"], "beta": 5.0}),
        preference("ipo", {"loss": "ipo", "beta": 0.1}, {"loss_type": ["ipo"], "beta": 0.1}),
        preference("robust", {"loss": "robust", **smooth}, {"loss_type": ["robust"], **smooth}),
        preference("cdpo", {"loss": "cdpo", **smooth}, aot, SMOOTHED),
        preference("dpo, labels right with 0.9", {"loss": "dpo", "beta": 0.1, "probability": 0.9}, aot, SMOOTHED),
        preference(
            "dpo with nll",
            {"loss": "dpo", "beta": 0.1, "nll": 0.2},
            {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2], "beta": 0.1},
            LIKELIHOOD,
        ),
        Comparison("kto", "kto", cases.labelled, partial(ours.judged, **weights), partial(theirs.kto, **weights)),
        Comparison(
            "simpo",
            "simpo",
            cases.pairs,
            partial(ours.preferred, loss="simpo", beta=2.0, gamma=1.0),
            partial(theirs.simpo, beta=2.0, simpo_gamma=1.0),
        ),
        Comparison(
            "orpo, odds ratio",
            "orpo",
            cases.pairs,
            partial(ours.preferred, loss="orpo", beta=0.1, nll=0.0),
            partial(odds, beta=0.1),
            ("the likelihood is left out on both sides",),
        ),
        Comparison(
            "orpo",
            "orpo",
            whole,
            partial(ours.preferred, loss="orpo", beta=0.1),
            partial(both, beta=0.1),
            (LIKELIHOOD, PROMPT),
        ),
    ]


def rewards() -> list[Comparison]:
    pair, three = partial(cases.rewards, answers=2), partial(cases.rewards, answers=3)
    plain = partial(ours.rewarded, margin=0.0)
    return [
        Comparison("reward model", "reward_model", pair, plain, partial(theirs.reward, margin=False, centring=0.0)),
        Comparison(
            "reward model, margin and centring",
            "reward_model",
            pair,
            partial(ours.rewarded, centring=0.01),
            partial(theirs.reward, margin=True, centring=0.01),
        ),
        Comparison(
            "reward model, three answers",
            "reward_model",
            three,
            partial(ours.rewarded, centring=0.01),
            partial(theirs.reward, margin=True, centring=0.01),
            (WEIGHTS,),
        ),
    ]


SFT = Comparison("sft, mean over tokens", "sft", cases.rows, ours.imitated, theirs.sft)


def comparisons() -> list[Comparison]:
    family = [rl(algorithm, stage) for algorithm in OF_TRL for stage in (FIRST, FIRST_APART, LATER, APART)]
    return [*family, *of_special_cases(), *preferences(), *rewards(), SFT]


def controls(right: Sequence[Comparison]) -> list[Comparison]:
    """Some of the right comparisons with something wrong on our side on purpose: each must be found."""
    named = {each.name: each for each in right}

    def wrong(name: str, what: str, side: Callable[[Any], Outcome]) -> Comparison:
        return replace(named[name], name=f"{named[name].method}: {what}", ours=side)

    def changed(algorithm: str, stage: Stage, what: str, *, kl_form: str = "k3_loss", **changes: Any) -> Comparison:
        settings = ours.RlSettings(algorithm, epochs=2 if stage.again else 1, kl=stage.kl, kl_form=kl_form, changes=changes)
        return wrong(f"{algorithm}, {stage.name}", what, partial(ours.rl, settings=settings))

    return [
        changed("grpo", LATER, "upper range 0.3 for 0.2", clip_high=0.3),
        changed("grpo", FIRST, "mean over tokens for mean over rows", reduction="token_mean"),
        changed("grpo", APART, "k2 for k3", kl_form="k2_loss"),
        changed("dr_grpo", FIRST, "mean over rows for a constant", reduction="sequence_mean"),
        changed("dapo", LATER, "lower range 0.3 for 0.2", clip_low=0.3),
        changed("gspo", LATER, "ratio by token for ratio by row", policy_loss="clipped"),
        changed("cispo", LATER, "upper range 0.2 for 0.28", clip_high=0.2),
        wrong("dpo", "beta 0.101 for 0.1", partial(ours.preferred, loss="dpo", beta=0.101)),
        wrong("ipo", "a logistic loss for a square", partial(ours.preferred, loss="dpo_norm", beta=0.1)),
        wrong("cdpo", "noise 0.11 for 0.1", partial(ours.preferred, loss="cdpo", beta=0.1, label_smoothing=0.11)),
        wrong("robust", "noise 0.11 for 0.1", partial(ours.preferred, loss="robust", beta=0.1, label_smoothing=0.11)),
        wrong("kto", "weights exchanged", partial(ours.judged, beta=0.1, desirable_weight=1.3, undesirable_weight=1.0)),
        wrong("simpo", "gamma 1.01 for 1", partial(ours.preferred, loss="simpo", beta=2.0, gamma=1.01)),
        wrong("orpo", "likelihood times 0.99", partial(ours.preferred, loss="orpo", beta=0.1, nll=0.99)),
        wrong("reward model, margin and centring", "no margin", partial(ours.rewarded, margin=0.0, centring=0.01)),
        wrong("reward model, margin and centring", "no centring", ours.rewarded),
        wrong("sft, mean over tokens", "one row missing", lambda case: ours.imitated(replace(case, rows=case.rows[1:]))),
    ]


def uncompared() -> set[str]:
    """Methods of ours that neither a comparison nor a reason names."""
    return {*FAMILY, *LOSSES} - {each.method for each in comparisons()} - set(NOT_COMPARED)
