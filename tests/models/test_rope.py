"""YaRN: by hand, equal to transformers' own forward, saved so that transformers and our engine read it, errors told."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from posttrain import chat
from posttrain.core.config import ContextConfig, LoraConfig
from posttrain.core.errors import UserError
from posttrain.core.types import Sampling, TokenRow, floats, ints
from posttrain.generation.native import NativeEngine
from posttrain.generation.native.engine import PREFILL_TOKENS
from posttrain.generation.native.scheduler import Request
from posttrain.models import rope
from posttrain.models.forward import score
from posttrain.models.load import Loaded, load
from posttrain.models.lora import add_lora
from posttrain.models.packing import pack
from posttrain.models.save import save_model
from posttrain.models.view import InferenceView

LENGTH = 1300  # beyond the toy's 1024


def tokens(count: int = LENGTH) -> list[int]:
    return torch.randint(0, 256, (count,), generator=torch.Generator().manual_seed(3)).tolist()


def row(ids: list[int]) -> TokenRow:
    return TokenRow(ints(ids), ints([0] + [1] * (len(ids) - 1)), floats([0.0] * len(ids)), ints([0] * len(ids)))


def saved(toy: Loaded, folder: Path, asked: ContextConfig) -> Path:
    rope.extend(toy.model, asked)
    save_model(toy.model, toy.tokenizer, folder)
    return folder


def transformers_logprobs(folder: Path, ids: list[int]) -> torch.Tensor:
    """Of each token but the first, by the library's own attention and rotary embedding."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        logprobs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return logprobs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]


def test_frequencies_by_hand(toy: Loaded) -> None:
    """16 dimensions, base 10,000, original length 1024, s = 4: those that turn more than 32 times stay, those that turn less
    than once are divided by 4, the ramp between is linear in the dimension (equations 17 to 21 of the paper)."""
    rope.extend(toy.model, ContextConfig(length=4096))
    plain = [10_000 ** (-2 * i / 16) for i in range(8)]

    def dimension(turns: float) -> float:  # the one that turns so often over the original length
        return 16 * math.log(1024 / (turns * 2 * math.pi)) / (2 * math.log(10_000))

    low, high = math.floor(dimension(32)), math.ceil(dimension(1))
    ramp = [min(1.0, max(0.0, (i - low) / (high - low))) for i in range(8)]
    expected = [f * (1 - r) + f / 4 * r for f, r in zip(plain, ramp, strict=True)]
    embedding = toy.model.model.rotary_emb
    assert embedding.inv_freq.tolist() == pytest.approx(expected, rel=1e-5)
    assert expected[0] == plain[0] and expected[-1] == plain[-1] / 4
    assert embedding.attention_scaling == pytest.approx(0.1 * math.log(4) + 1)  # equation 22


@pytest.mark.parametrize(
    "asked",
    [
        ContextConfig(length=2048),
        ContextConfig(length=4096, factor=8.0, beta_fast=16.0, beta_slow=2.0),
        ContextConfig(length=2048, attention_factor=1.7),
    ],
)
def test_our_forward_equals_transformers_own(toy: Loaded, tmp_path: Path, asked: ContextConfig) -> None:
    folder = saved(toy, tmp_path / "long", asked)
    expected = transformers_logprobs(folder, tokens())
    with torch.no_grad():
        assert torch.allclose(score(toy.model, pack([row(tokens())])).logprobs_L, expected, atol=2e-5)
        again = load(str(folder), dtype=torch.float32)
        assert torch.allclose(score(again.model, pack([row(tokens())])).logprobs_L, expected, atol=2e-5)


def test_every_part_of_the_setting_moves_the_result(toy_path: Path) -> None:
    """Against the plain model and against each other: none is accepted and ignored."""
    found = []
    for asked in (
        None,
        ContextConfig(length=2048),
        ContextConfig(length=2048, factor=4.0),
        ContextConfig(length=2048, attention_factor=1.7),
        ContextConfig(length=2048, beta_slow=6.0),
        ContextConfig(length=2048, beta_fast=200.0),
    ):
        model = load(str(toy_path), dtype=torch.float32).model
        if asked is not None:
            rope.extend(model, asked)
        with torch.no_grad():
            found.append(score(model, pack([row(tokens(600))])).logprobs_L)
    for i, one in enumerate(found):
        assert all((one - other).abs().max() > 1e-5 for other in found[:i]), i


def test_the_engine_reads_long_prompts_as_the_trainer_scores_them(toy: Loaded, tmp_path: Path) -> None:
    """Through the adapter's folded view: a prompt longer than one prefill takes, one beyond the old context, a short one."""
    rope.extend(toy.model, ContextConfig(length=8192))
    add_lora(toy.model, LoraConfig(rank=4), seed=0)
    renderer = chat.renderer(toy.tokenizer)
    engine = NativeEngine(InferenceView(toy.model), renderer.decode, ())
    assert engine.context == 8192
    prompts = [tokens(PREFILL_TOKENS + 300), tokens(LENGTH), tokens(9)]
    found = engine.generate_batch([Request(ints(prompt), Sampling(temperature=1.0, max_tokens=6), 5) for prompt in prompts])
    for prompt, written in zip(prompts, found, strict=True):
        with torch.no_grad():
            scored = score(toy.model, pack([row(prompt + list(written.tokens))])).logprobs_L[-6:]
        assert torch.allclose(torch.tensor(written.logprobs), scored, atol=1e-4)
    save_model(toy.model, toy.tokenizer, tmp_path / "long")
    assert NativeEngine(InferenceView(load(str(tmp_path / "long")).model), renderer.decode, ()).context == 8192


def test_stages_do_not_compound(toy: Loaded, tmp_path: Path) -> None:
    once = AutoConfig.from_pretrained(saved(toy, tmp_path / "once", ContextConfig(length=2048)))
    assert once.max_position_embeddings == 2048 and once.rope_parameters["factor"] == 2.0
    twice = AutoConfig.from_pretrained(saved(load(str(tmp_path / "once")), tmp_path / "twice", ContextConfig(length=4096)))
    assert twice.max_position_embeddings == 4096
    assert twice.rope_parameters["factor"] == 4.0 and twice.rope_parameters["original_max_position_embeddings"] == 1024
    assert twice.rope_parameters["rope_type"] == "yarn" and twice.rope_parameters["rope_theta"] == 10_000


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (ContextConfig(length=512), "length is 512, and the model can read 1024 tokens already"),
        (ContextConfig(length=1024), "can read 1024 tokens already"),
        (ContextConfig(length=4096, factor=2.0), "beyond what a factor of 2 reaches: 2 x 1024 = 2048"),
        (ContextConfig(length=65_536), "64 times the 1024 tokens the model was made for"),
    ],
)
def test_lengths_that_cannot_be_reached(toy: Loaded, asked: ContextConfig, said: str) -> None:
    before = toy.model.config.to_dict()
    with pytest.raises(UserError) as error:
        rope.extend(toy.model, asked)
    assert said in str(error.value) and error.value.fix
    assert toy.model.config.to_dict() == before


def test_positions_that_yarn_cannot_extend(toy_path: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_path, tmp_path / "m")
    config = AutoConfig.from_pretrained(tmp_path / "m")
    config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    config.save_pretrained(tmp_path / "m")
    with pytest.raises(UserError, match="rope type 'linear', which YaRN cannot extend"):
        rope.extend(load(str(tmp_path / "m")).model, ContextConfig(length=4096))
