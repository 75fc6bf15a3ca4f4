"""Rollouts a second: the native engine against transformers' `generate`, on SmolLM2-135M-Instruct in bf16.

8 prompts of 53 tokens, 8 samples each, 64 new tokens each, temperature 1 over the whole vocabulary, no stop token, so both
write 4,096 tokens. Two forms of the peer: `default`, as its documentation shows it, and `tuned`, which also keeps freed
memory and runs in inference mode, as ours does. Machines drift, so every figure is a ratio within a block: A B B A, each
letter a fresh process that warms up once and then takes the median of its rounds.

    python -m benchmarks.rollouts [--blocks 3] [--rounds 3] [--threads 2] [--peer tuned|default] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

PROMPTS, SAMPLES, PROMPT_TOKENS, NEW_TOKENS = 8, 8, 53, 64
MODEL = "smollm2-135m-instruct"


def prompts() -> list[list[int]]:
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randint(100, 40_000, (PROMPTS, PROMPT_TOKENS), generator=generator).tolist()


def ours() -> Callable[[], int]:
    from posttrain.core.types import Sampling
    from posttrain.generation.native import NativeEngine, Request
    from posttrain.models.load import load
    from posttrain.models.memory import keep_memory
    from posttrain.models.view import InferenceView

    keep_memory()
    loaded = load(MODEL)
    engine = NativeEngine(InferenceView(loaded.model), lambda tokens: "", (), max_rows=PROMPTS * SAMPLES)
    requests = [
        Request(array("i", prompt), Sampling(max_tokens=NEW_TOKENS), seed=1000 * p + s)
        for p, prompt in enumerate(prompts())
        for s in range(SAMPLES)
    ]
    return lambda: sum(len(completion.tokens) for completion in engine.generate_batch(requests))


def peer(tuned: bool) -> Callable[[], int]:
    import torch
    from transformers import AutoModelForCausalLM

    from posttrain.models.load import resolve
    from posttrain.models.memory import keep_memory

    if tuned:
        keep_memory()
    model = AutoModelForCausalLM.from_pretrained(resolve(MODEL), dtype=torch.bfloat16).eval()
    tokens = torch.tensor(prompts())
    settings = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "num_return_sequences": SAMPLES, "use_cache": True}
    lengths = {"min_new_tokens": None, "max_new_tokens": NEW_TOKENS, "eos_token_id": None, "pad_token_id": 0}

    def write() -> int:
        with torch.inference_mode(tuned):
            out = model.generate(input_ids=tokens, attention_mask=torch.ones_like(tokens), **settings, **lengths)
        return int((out.shape[1] - PROMPT_TOKENS) * out.shape[0])

    return write


ARMS: dict[str, Callable[[], Callable[[], int]]] = {"ours": ours, "default": lambda: peer(False), "tuned": lambda: peer(True)}


def measure(arm: str, rounds: int, threads: int) -> float:
    """Tokens a second of one arm, in this process: the median after one round of warm-up."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    write = ARMS[arm]()
    speeds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        tokens = write()
        assert tokens == PROMPTS * SAMPLES * NEW_TOKENS, f"{arm} wrote {tokens} tokens"
        speeds.append(tokens / (time.perf_counter() - start))
    return statistics.median(speeds[1:])


def in_fresh_process(arm: str, rounds: int, threads: int) -> float:
    command = [sys.executable, "-m", "benchmarks.rollouts", "--arm", arm, "--rounds", str(rounds), "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def block(number: int, peer: str, rounds: int, threads: int) -> tuple[list[tuple[str, float]], float]:
    """Tokens a second of ours, peer, peer, ours, and the ratio of their means."""
    speeds = [(arm, in_fresh_process(arm, rounds, threads)) for arm in ("ours", peer, peer, "ours")]
    mine, theirs = (statistics.mean(speed for arm, speed in speeds if arm == name) for name in ("ours", peer))
    print(f"block {number}: ours {mine:.0f}, {peer} {theirs:.0f} tokens/s, ratio {mine / theirs:.2f}", flush=True)
    return speeds, mine / theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer", choices=["default", "tuned"], default="tuned")
    parser.add_argument("--json", type=Path, help="also write every figure here")
    parser.add_argument("--arm", choices=sorted(ARMS), help="measure one arm in this process and print it")
    asked = parser.parse_args()
    if asked.arm:
        print(measure(asked.arm, asked.rounds, asked.threads))
        return
    blocks = [block(number, asked.peer, asked.rounds, asked.threads) for number in range(1, asked.blocks + 1)]
    ratios = sorted(ratio for _, ratio in blocks)
    middle = statistics.median(ratios)
    print(f"ratio: median {middle:.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} blocks")
    if asked.json:
        figures = {"peer": asked.peer, "blocks": [{"speeds": speeds, "ratio": ratio} for speeds, ratio in blocks], "ratio": middle}
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
