"""A reward model: one or several members, each a language model's body with a scalar head, scored at the last token.

The score of a conversation is the head's output at the last token that the chat template writes: what
`AutoModelForSequenceClassification` reads from `apply_chat_template(messages)`. An ensemble has M heads on one body, or M
adapters on one frozen body (arXiv:2312.09244, section 3, tells how their errors differ).

On disk, `model/` is what transformers loads as it is, with adapters folded in and one label: the only member; the mean of
the heads (they share a body, so the mean of their weights is exactly the mean of their scores); or the first of several
adapters. Beside it, for ours: `reward_model.json`, `heads.safetensors` (M heads), `members/<i>/` (adapter in PEFT's layout).
Letters: R rows, M members, E width of the body.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from posttrain.core.config import LoraConfig
from posttrain.core.errors import UserError
from posttrain.core.seeds import derive
from posttrain.models import attention
from posttrain.models.heads import ScalarHead, hidden_states, pack_ends
from posttrain.models.load import Loaded, default_device, load, quiet, resolve
from posttrain.models.lora import adapters, add_lora, merged_state, save_adapter
from posttrain.models.packing import micro_batches
from posttrain.models.sibling import sibling

Ensemble = Literal["adapters", "heads"]
ABOUT = "reward_model.json"
HEADS = "heads.safetensors"


class Member(nn.Module):
    """A body and its head, or heads: what has gradients of its own."""

    def __init__(self, model: PreTrainedModel, head: ScalarHead) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Rewards, shape (R, heads), of rows packed together: rows of one prompt store it once."""
        rewards: Tensor = self.head(hidden_states(self.model, pack_ends(rows, device=self.model.device)))
        return rewards


@dataclass
class RewardModel:
    """`mean` and `std` are each member's over the answers it was trained on, empty where unknown."""

    members: list[Member]
    tokenizer: PreTrainedTokenizerBase
    ensemble: Ensemble = "adapters"
    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    @property
    def size(self) -> int:
        return sum(len(member.head.weight) for member in self.members)

    @property
    def context(self) -> int:
        return int(getattr(self.members[0].model.config, "max_position_embeddings", 1 << 30))

    @torch.no_grad()
    def score(self, rows: Sequence[Sequence[int]], *, budget: int) -> Tensor:
        """Every member's reward of every row, shape (R, M) on the CPU, in forwards of at most `budget` tokens or one row."""
        parts = []
        for chosen in micro_batches([[len(row)] for row in rows], budget):
            picked = [rows[i] for i, _ in chosen]
            parts.append(torch.cat([member(picked) for member in self.members], dim=1).cpu())
        return torch.cat(parts) if parts else torch.zeros(0, self.size)


def new_reward_model(loaded: Loaded, lora: LoraConfig | None, *, members: int, ensemble: Ensemble, seed: int) -> RewardModel:
    """Fresh heads, and adapters where `lora` is given, on a language model, which they take over. Raises UserError where
    transformers has no form of it that could be saved."""
    classifier_of(loaded.model)
    width = int(cast(Tensor, loaded.model.get_input_embeddings().weight).shape[1])
    heads = members if ensemble == "heads" else 1
    if lora is not None:
        add_lora(loaded.model, lora, seed=derive(seed, "lora", 0))
    else:
        loaded.model.requires_grad_(True)
        output = loaded.model.get_output_embeddings()
        if output.weight is not loaded.model.get_input_embeddings().weight:
            output.requires_grad_(False)  # nothing reads it
    bodies = [loaded.model]
    bodies += [sibling(loaded.model, lora, seed=derive(seed, "lora", i)) for i in range(1, members if heads == 1 else 1)]
    made = [
        Member(body, ScalarHead(width, heads, seed=derive(seed, "head", i), dtype=body.dtype).to(body.device))
        for i, body in enumerate(bodies)
    ]
    return RewardModel(made, loaded.tokenizer, ensemble)


def classifier_of(model: PreTrainedModel) -> PreTrainedModel:
    """The same architecture with a head of one label instead of the output layer, its weights not yet there."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = None
    config.use_cache = True
    config.num_labels = 1
    try:
        with quiet(), torch.device("meta"):
            plain: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, dtype=model.dtype)
    except ValueError as error:
        raise UserError(
            f"transformers has no sequence classification for {config.model_type}, so its reward model could not be saved.",
            fix="Use a Llama, Qwen, Mistral, Gemma, Phi or GPT-2 model.",
        ) from error
    if not isinstance(getattr(plain, "score", None), nn.Linear):
        raise UserError(f"{config.model_type} keeps its scalar head under another name than `score`.", fix="Use another model.")
    return plain


def save_reward_model(reward: RewardModel, folder: Path, *, base: str) -> None:
    """Write the directory described above. `base` is where the body without adapters is, relative to `folder` or a name."""
    first = reward.members[0]
    score = first.head.weight.detach()
    plain, state = classifier_of(first.model), merged_state(first.model)
    state["score.weight"] = score.float().mean(0, keepdim=True).to(score.dtype)
    plain.load_state_dict({name: state[name] for name in plain.state_dict()}, assign=True)
    tokenizer = copy.deepcopy(reward.tokenizer)
    plain.config.pad_token_id = tokenizer.pad_token_id = filler(tokenizer)
    with quiet():
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    if len(score) > 1:
        save_file({"heads": score.contiguous()}, folder / HEADS)
    if len(reward.members) > 1:
        for number, member in enumerate(reward.members):
            place = folder / "members" / str(number)
            save_adapter(member.model, place, base=f"../../{base}" if base.startswith(".") else base)
            save_file({"head": member.head.weight.detach().contiguous()}, place / "head.safetensors")
    about = {
        "members": reward.size,
        "ensemble": reward.ensemble,
        "mean": list(reward.mean),
        "std": list(reward.std),
        "base": base if len(reward.members) > 1 else None,
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n")


def filler(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """A control token to pad with that can end no conversation: transformers finds a row's end by what is not padding, and
    would read past an end-of-turn token that is also the pad token. None where there is no other: then one row at a time."""
    ends = {tokenizer.eos_token_id}
    with quiet():
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        ends |= set(cast(list[int], tokenizer.apply_chat_template(turns, return_dict=False)))
    known = [tokenizer.pad_token_id, tokenizer.unk_token_id, *sorted(tokenizer.all_special_ids)]
    return next((token for token in known if token is not None and token not in ends), None)


def load_reward_model(reference: str, *, device: torch.device | str | None = None) -> RewardModel:
    """Load a reward model of ours, or any sequence classifier with one label. Raises UserError for anything else."""
    path = resolve(reference)
    about = _about(path)
    if about.get("ensemble") == "adapters" and about.get("members", 1) > 1:
        return _load_members(path, about)
    config = json.loads((path / "config.json").read_text())
    if not any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or ()):
        raise UserError(
            f"{reference} is not a reward model: its architecture is {', '.join(config.get('architectures') or ['not named'])}.",
            fix="Point to what a reward_model stage wrote, or to a sequence classifier with one label.",
        )
    with quiet():
        labels = AutoConfig.from_pretrained(path).num_labels
        if labels != 1:
            raise UserError(f"{reference} has {labels} labels; a reward model has one.", fix="Use another model.")
        try:
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                path, dtype="auto", attn_implementation=attention.NAME, trust_remote_code=False, output_loading_info=True
            )
        except SafetensorError as error:
            raise UserError(f"the weights in {path} are damaged: {error}.", fix="Train the reward model again.") from error
        tokenizer = AutoTokenizer.from_pretrained(path)
    if loading["missing_keys"]:
        raise UserError(f"{reference} lacks {', '.join(sorted(loading['missing_keys'])[:3])}.", fix="Train it again.")
    attention.refuse_unsupported(model.config, reference)
    weight = _tensors(path / HEADS)["heads"] if (path / HEADS).exists() else model.score.weight.detach()
    member = _member(model.eval().to(torch.device(device or default_device())), weight, str(path))
    return RewardModel([member], tokenizer, about.get("ensemble", "adapters"), about.get("mean", ()), about.get("std", ()))


def _load_members(path: Path, about: dict[str, Any]) -> RewardModel:
    """M adapters on one body, which the folder refers to and does not hold."""
    base = (path / about["base"]).resolve() if about["base"].startswith(".") else Path(about["base"])
    if not (base / "config.json").is_file():
        raise UserError(
            f"{path} is an ensemble of adapters on the body in {base}, which is not there.",
            fix="Put the body back, or move both together.",
        )
    body = load(str(base)).model.requires_grad_(False)
    members = []
    for number in range(about["members"]):
        folder = path / "members" / str(number)
        tensors = _tensors(folder / "adapter_model.safetensors")
        settings = json.loads((folder / "adapter_config.json").read_text())
        lora = LoraConfig(rank=settings["r"], alpha=settings["lora_alpha"], allow_high_rank=True)
        model = sibling(body, lora, seed=0)
        for name, layer in adapters(model).items():
            layer.lora_A.data.copy_(tensors[f"base_model.model.{name}.lora_A.weight"])
            layer.lora_B.data.copy_(tensors[f"base_model.model.{name}.lora_B.weight"])
        members.append(_member(model.eval(), _tensors(folder / "head.safetensors")["head"], str(path)))
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(path)
    return RewardModel(members, tokenizer, "adapters", about["mean"], about["std"])


def _member(model: PreTrainedModel, weight_ME: Tensor, name: str) -> Member:
    if not torch.isfinite(weight_ME).all() or not weight_ME.any():
        raise UserError(f"the head of {name} is dead: its weights are all 0 or not finite.", fix="Train it again.")
    head = ScalarHead(weight_ME.shape[1], len(weight_ME), seed=0, dtype=weight_ME.dtype)
    head.weight.data.copy_(weight_ME)
    return Member(model, head.to(model.device)).requires_grad_(False)


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} is missing or damaged: {error}.", fix="Train the reward model again.") from error


def _about(path: Path) -> dict[str, Any]:
    found = path / ABOUT
    if not found.is_file():
        return {}
    try:
        about = json.loads(found.read_text())
    except ValueError as error:
        raise UserError(f"{found} is damaged: {error}.", fix="Train the reward model again.") from error
    return about if isinstance(about, dict) else {}
