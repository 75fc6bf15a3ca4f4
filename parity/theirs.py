"""TRL's side: its trainers' own loss methods on a model whose log-probabilities stand in a table.

A trainer is made without its constructor, which wants a real model, a tokenizer and a data set; what the loss reads is taken
from TRL's own configuration, defaults included, and a missing attribute is an error. No formula of TRL is repeated here. TRL is
imported inside the functions, so that this file can be read without it.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from parity.cases import LONGEST, LabelCase, Outcome, PairCase, RewardCase, RolloutCase, Row, RowCase, Tables

PAD = 0
IGNORED = -100
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


class TableModel(torch.nn.Module):
    """A causal model in which token n has log-probability table[n], wherever it stands.

    With `fused_lm_head` it answers as TRL's patched models do (0 where the label is ignored), else with logits whose softmax
    gives the next token its probability and shares the rest out evenly.
    """

    is_gradient_checkpointing = False

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None, fused_lm_head: bool = False, **_: Any
    ) -> SimpleNamespace:
        if not fused_lm_head:
            return SimpleNamespace(logits=self.logits(input_ids))
        assert labels is not None
        following = labels[:, 1:]
        counts = following != IGNORED
        logprobs = self.table[following.clamp(min=0)].masked_fill(~counts, 0)
        nothing = torch.zeros_like(logprobs)
        return SimpleNamespace(
            log_probs=logprobs, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool(), label_mask=counts, aux_loss=None
        )

    def logits(self, input_ids: Tensor) -> Tensor:
        following = input_ids.roll(-1, dims=1)[..., None]  # the last position predicts nothing that is read
        logprobs = self.table[following]
        others = torch.log(-torch.expm1(logprobs)) - torch.log(torch.tensor(len(self.table) - 1.0))
        return others.expand(*input_ids.shape, len(self.table)).scatter(-1, following, logprobs)


class TableRewards(torch.nn.Module):
    """A reward model that gives the answer numbered n the reward table[n]."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids])


@functools.cache
def trl() -> Any:
    """The namespace of what is compared. Importing it takes long."""
    places = dict.fromkeys(("GRPO", "RLOO", "DPO", "KTO", "SFT", "Reward"), "trl")
    places |= {"CPO": "trl.experimental.cpo", "ORPO": "trl.experimental.orpo"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modules = {name: import_module(place) for name, place in places.items()}
        found = {f"{name}{kind}": getattr(modules[name], f"{name}{kind}") for name in places for kind in ("Config", "Trainer")}
    return SimpleNamespace(**found, version=import_module("trl").__version__)


def config(kind: str, **settings: Any) -> Any:
    """TRL's configuration of a trainer, in fp32 on the processor."""
    make = getattr(trl(), f"{kind}Config")
    return make(output_dir="unused", report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, **settings)


def trainer(kind: str, args: Any, model: Any, taken: str = "", **attributes: Any) -> Any:
    """A trainer without its constructor: `taken` names the settings it keeps as attributes of the same name.

    Each has an accelerator of its own, because making `args` resets what accelerators share.
    """
    made = object.__new__(getattr(trl(), f"{kind}Trainer"))
    shared = {
        "args": args,
        "model": model,
        "accelerator": import_module("accelerate").Accelerator(cpu=True),
        "aux_loss_enabled": False,
        "current_gradient_accumulation_steps": 1,
        "_metrics": {"train": defaultdict(list)},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    vars(made).update(shared, **{name: getattr(args, name) for name in taken.split()}, **attributes)
    return made


def outcome(table: Tensor, losses: Sequence[Callable[[Tensor], Tensor]]) -> Outcome:
    """The mean of some losses of the same table, and its gradient."""
    leaf = table.clone().requires_grad_()
    loss = sum((loss(leaf) for loss in losses), torch.zeros(())) / len(losses)
    loss.backward()
    assert leaf.grad is not None
    return Outcome(loss.item(), leaf.grad)


def padded(rows: Sequence[Row], prefix: str = "") -> dict[str, Tensor]:
    """Rows as TRL's collators lay them out: padded on the right, with the counted tokens in `completion_mask`."""
    longest = max(len(row.tokens) for row in rows)

    def tensor(values: list[list[int]]) -> Tensor:
        return torch.tensor([each + [0] * (longest - len(each)) for each in values])

    return {
        f"{prefix}input_ids": tensor([row.tokens for row in rows]),
        f"{prefix}attention_mask": tensor([[1] * len(row.tokens) for row in rows]),
        f"{prefix}completion_mask": tensor([row.mask for row in rows]),
    }


def labels_of(batch: dict[str, Tensor]) -> Tensor:
    return batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)


# ------------------------------------------------------------------------------------------------ GRPO's family

GRPO_TAKES = """use_vllm vllm_importance_sampling_correction vllm_importance_sampling_mode vllm_importance_sampling_clip_max
vllm_importance_sampling_clip_min loss_type scale_rewards importance_sampling_level off_policy_mask_threshold top_entropy_quantile
mask_truncated_completions num_iterations num_generations beta multi_objective_aggregation pad_to_multiple_of log_multimodal"""
RLOO_TAKES = (
    "beta num_generations normalize_advantages reward_clip_range mask_truncated_completions pad_to_multiple_of log_multimodal"
)


def rl(case: RolloutCase, *, again: bool, apart: bool, beta: float, bias_correction: bool = False, **settings: Any) -> Outcome:
    """From rewards to the loss: _generate_and_score_completions for advantages, old and reference log-probabilities, importance
    ratios and counts, then _compute_loss. `again`: the batch is used more than once; `apart`: the sampler is another engine."""
    args = config(
        "GRPO",
        per_device_train_batch_size=len(case.rows),
        num_generations=len(case.groups[0]),
        steps_per_generation=1,
        num_iterations=2 if again else 1,
        max_completion_length=LONGEST,
        beta=beta,
        use_bias_correction_kl=bias_correction,
        use_vllm=apart,
        vllm_importance_sampling_mode="token_truncate",
        vllm_importance_sampling_clip_max=2.0,
        **settings,
    )
    completed = generated(case.rows, case.tables, apart)
    made = sampling_trainer(
        "GRPO",
        args,
        case,
        GRPO_TAKES,
        max_completion_length=args.max_completion_length,
        _entropy_bonus_enabled=False,
        environment_factories=None,
        environments=None,
        tools=None,
        _generate=lambda prompts: completed,
    )
    return of_samples(made, case)


def rloo(case: RolloutCase, *, beta: float) -> Outcome:
    """RLOOTrainer in the same way. It has no holes in answers."""
    args = config(
        "RLOO", per_device_train_batch_size=len(case.rows), num_generations=len(case.groups[0]), steps_per_generation=1, beta=beta
    )
    prompts, completions, _, texts, *_ = generated(case.rows, case.tables, apart=False)
    made = sampling_trainer("RLOO", args, case, RLOO_TAKES, _generate=lambda _: (prompts, completions, texts))
    return of_samples(made, case)


def sampling_trainer(kind: str, args: Any, case: RolloutCase, taken: str, **attributes: Any) -> Any:
    return trainer(
        kind,
        args,
        TableModel(case.tables.old),
        taken,
        ref_model=TableModel(case.tables.reference),
        epsilon_low=args.epsilon,
        epsilon_high=args.epsilon if args.epsilon_high is None else args.epsilon_high,
        _tokenizer=SimpleNamespace(pad_token_id=PAD),
        reward_func_names=["reward"],
        reward_weights=torch.ones(1),
        _logs=defaultdict(list, rewards=defaultdict(list), extra=defaultdict(list)),
        _pending_extra_logs={},
        _pending_metrics={},
        _calculate_rewards=lambda *_: torch.tensor(case.rewards).reshape(-1, 1),
        **attributes,
    )


def of_samples(made: Any, case: RolloutCase) -> Outcome:
    inputs = made._generate_and_score_completions([{"prompt": "q"} for _ in case.rows])
    return outcome(case.tables.policy, [lambda table: made._compute_loss(TableModel(table), inputs)])


def generated(rows: Sequence[Row], tables: Tables, apart: bool) -> tuple[Any, ...]:
    """What TRL's _generate returns: prompts, completions, which tokens the model wrote, texts, the sampler's log-probs."""
    completions = [row.tokens[row.prompt :] for row in rows]
    sampled = [tables.sampled[torch.tensor(tokens)].tolist() for tokens in completions] if apart else None
    wrote = [row.mask[row.prompt :] for row in rows]
    return [row.tokens[: row.prompt] for row in rows], completions, wrote, ["" for _ in rows], sampled, {}, None, []


# ------------------------------------------------------------------------------------------------ preferences

DPO_TAKES = "beta label_smoothing use_weighting ld_alpha f_divergence_type f_alpha_divergence_coef"


def dpo(case: PairCase, *, singly: bool = False, **settings: Any) -> Outcome:
    """DPOTrainer; `singly` makes each pair a batch of its own and takes the mean over batches."""
    args = config("DPO", **settings)
    made = trainer(
        "DPO",
        args,
        TableModel(case.tables.old),
        DPO_TAKES,
        ref_model=TableModel(case.tables.reference),
        precompute_ref_logps=args.precompute_ref_log_probs,
        loss_types=args.loss_type,
        loss_weights=args.loss_weights or [1.0] * len(args.loss_type),
    )
    batches = [padded([*chosen, *rejected]) for chosen, rejected in batched(case, singly)]
    return outcome(case.tables.policy, [functools.partial(dpo_loss, made, batch) for batch in batches])


def dpo_loss(made: Any, batch: dict[str, Tensor], table: Tensor) -> Tensor:
    loss: Tensor = made._compute_loss(TableModel(table), batch, return_outputs=False)
    return loss


def batched(case: PairCase, singly: bool) -> list[tuple[list[Row], list[Row]]]:
    if singly:
        return [([chosen], [rejected]) for chosen, rejected in zip(case.chosen, case.rejected, strict=True)]
    return [(case.chosen, case.rejected)]


def simpo(case: PairCase, **settings: Any) -> Outcome:
    """SimPO is a loss of TRL's CPOTrainer."""
    args = config("CPO", loss_type="simpo", cpo_alpha=0.0, **settings)
    takes = "beta label_smoothing loss_type simpo_gamma alpha cpo_alpha"
    made = trainer("CPO", args, TableModel(case.tables.old), takes, is_encoder_decoder=False, pad_token_id=PAD)
    return outcome(case.tables.policy, [lambda table: made.get_batch_loss_metrics(TableModel(table), sides(case))[0]])


def orpo(case: PairCase, *, singly: bool, likelihood: bool, **settings: Any) -> Outcome:
    """ORPOTrainer; without `likelihood` its negative log-likelihood is replaced by 0 on the way to the loss."""
    args = config("ORPO", **settings)
    made = trainer("ORPO", args, TableModel(case.tables.old), "beta", is_encoder_decoder=False, padding_value=PAD)
    if not likelihood:
        forward = made.concatenated_forward
        made.concatenated_forward = lambda model, batch: (*forward(model, batch)[:4], torch.zeros(()))
    batches = [sides(PairCase(chosen, rejected, case.tables)) for chosen, rejected in batched(case, singly)]
    return outcome(case.tables.policy, [functools.partial(orpo_loss, made, batch) for batch in batches])


def orpo_loss(made: Any, batch: dict[str, Tensor], table: Tensor) -> Tensor:
    loss: Tensor = made.get_batch_loss_metrics(TableModel(table), batch)[0]
    return loss


def sides(case: PairCase) -> dict[str, Tensor]:
    """The batch of CPOTrainer and ORPOTrainer: labels in place of a mask."""
    batch: dict[str, Tensor] = {}
    for name, rows in (("chosen", case.chosen), ("rejected", case.rejected)):
        side = padded(rows)
        batch |= {f"{name}_{key}": side[key] for key in ("input_ids", "attention_mask")} | {f"{name}_labels": labels_of(side)}
    return batch


def kto(case: LabelCase, **settings: Any) -> Outcome:
    args = config("KTO", **settings)
    made = trainer(
        "KTO",
        args,
        TableModel(case.tables.old),
        "beta loss_type desirable_weight undesirable_weight",
        ref_model=TableModel(case.tables.reference),
        calculate_KL=True,
        precompute_ref_logps=False,
    )
    batch = {**padded(case.rows), **padded(case.mismatched, "KL_"), "label": torch.tensor(case.labels)}
    return outcome(case.tables.policy, [lambda table: made._compute_loss(TableModel(table), batch, return_outputs=False)])


# ------------------------------------------------------------------------------------------------ SFT and reward models


def sft(case: RowCase) -> Outcome:
    """In two micro-batches that share the number of tokens of both, as TRL's training loop gives it."""
    made = trainer("SFT", config("SFT"), TableModel(case.tables.policy), compute_loss_func=None, label_smoother=None)
    made.is_deepspeed_enabled = False
    count = torch.tensor(sum(len(row.counted) for row in case.rows))
    batches = [padded(case.rows[:2]), padded(case.rows[2:])]
    batches = [{**batch, "labels": labels_of(batch)} for batch in batches]

    def loss(table: Tensor) -> Tensor:
        parts = [made.compute_loss(TableModel(table), dict(batch), num_items_in_batch=count) for batch in batches]
        return torch.stack(parts).sum()

    return outcome(case.tables.policy, [loss])


def reward(case: RewardCase, *, margin: bool, centring: float) -> Outcome:
    """A pair is two rows, so an answer in several pairs is in the batch several times."""
    made = trainer("Reward", config("Reward", center_rewards_coefficient=centring or None), TableRewards(case.rewards))
    pairs = [(prompt * case.answers + a, prompt * case.answers + b, m) for prompt, of in enumerate(case.pairs) for a, b, m in of]
    ids = torch.tensor([better for better, _, _ in pairs] + [worse for _, worse, _ in pairs])[:, None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if margin:
        batch["margin"] = torch.tensor([m for _, _, m in pairs])
    return outcome(case.rewards, [lambda table: made.compute_loss(TableRewards(table), dict(batch))])
