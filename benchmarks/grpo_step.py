"""One GRPO step of ours against one of TRL's: same model, prompts, lengths, adapter, precision and reward, in turns.

Each side runs in a process of its own, TRL's in .venv-trl (`make bench-setup`). The two take turns by blocks of steps, so
that a noisy machine is noisy for all, and a side that waits uses no processor. TRL runs twice: `trl` tuned for this machine
(gradient checkpointing off, freed memory kept as models/memory.py does) and `trl-default` as it comes, with its own defaults
but for the model's precision (bf16, as ours) and the loss, lengths and adapter of the case. Writes benchmarks/out/grpo_step.json.

A step is everything from sampling to the new weights being ready to sample from. Every completion has exactly --new tokens,
so both sides do the same work whatever the models write. The first step of each side is warm-up and is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = {"ours": ROOT / ".venv/bin/python", "trl": ROOT / ".venv-trl/bin/python", "trl-default": ROOT / ".venv-trl/bin/python"}
SYSTEM = "You are a careful assistant. Think aloud, step by step, and then give the answer as one number."
QUESTIONS = [
    "A baker makes 24 rolls every hour and sells them in bags of 6. How many bags can he fill in a day of 8 hours?",
    "A train leaves at 9 and arrives at 13. It covers 70 kilometres every hour. How far apart are the two towns?",
    "Ann has 3 boxes with 15 pencils each. She gives 7 pencils to each of her 4 friends. How many pencils are left?",
    "A garden is 12 metres long and 9 metres wide. A fence costs 5 coins for each metre. What does a fence all round cost?",
]
LEARNING_RATE, BETA, RANK, ALPHA = 1e-5, 0.02, 16, 32


def reward(text: str) -> float:
    """Share of vowels: means nothing, costs nothing, and hardly ever ties, so that every sample carries an advantage."""
    return sum(letter in "aeiou" for letter in text) / max(1, len(text))


# ------------------------------------------------------------------------------------------------ the two workers


def keep_memory() -> None:
    """As posttrain.models.memory does, for a process that cannot import it."""
    if platform.libc_ver()[0] == "glibc":
        import ctypes

        ctypes.CDLL(None).mallopt(-4, 0)
        ctypes.CDLL(None).mallopt(-1, -1)


def wait_for_turn() -> None:
    if not sys.stdin.readline():
        raise SystemExit  # the harness is gone or done


def report(seconds: float, generated: int, prompt: int) -> None:
    """One line of JSON per step on standard output."""
    line = {"seconds": seconds, "generated": generated, "prompt": prompt, "peak_gb": peak_memory()}
    print("STEP " + json.dumps(line), flush=True)


def peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def work_trl_default(model_path: str, samples: int, new: int) -> None:
    work_trl(model_path, samples, new, tuned=False)


def work_trl(model_path: str, samples: int, new: int, *, tuned: bool = True) -> None:
    """TRL's own trainer loop; a callback waits for the turn before each step and reports after it."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    if tuned:
        keep_memory()
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    counted = {"generated": 0}

    def score(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        counted["generated"] = sum(len(ids) for ids in completion_ids)
        return [reward(turns[0]["content"]) for turns in completions]

    class Turns(TrainerCallback):
        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            wait_for_turn()
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            report(time.perf_counter() - self.began, counted["generated"], prompt_tokens)

    prompts = [[{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}] for question in QUESTIONS]
    shown = [tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=False) for p in prompts]
    prompt_tokens = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in shown)
    config = GRPOConfig(
        output_dir=os.environ["BENCHMARK_SCRATCH"],
        max_steps=10**6,
        per_device_train_batch_size=len(QUESTIONS) * samples,
        num_generations=samples,
        max_completion_length=new,
        generation_kwargs={"min_new_tokens": new},
        temperature=1.0,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        beta=BETA,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        **({"gradient_checkpointing": False} if tuned else {}),
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.bfloat16),
        reward_funcs=score,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Turns()],
    )
    trainer.train()


def work_ours(model_path: str, samples: int, new: int) -> None:
    """The library's own loop: the same parts that the stage `grpo` builds, without its records."""
    asyncio.run(_work_ours(model_path, samples, new))


async def _work_ours(model_path: str, samples: int, new: int) -> None:
    from posttrain import chat
    from posttrain.core.config import GrpoConfig, KlConfig, LoraConfig, MathGrader, TaskSource
    from posttrain.core.types import Grade, Message, Rollout, Task
    from posttrain.generation.native import NativeEngine
    from posttrain.models.load import load
    from posttrain.models.memory import keep_memory as keep
    from posttrain.stages.rounds import Rounds
    from posttrain.training.grpo import grpo
    from posttrain.training.policy import Policy

    keep()
    config = GrpoConfig(
        tasks=[TaskSource(source="given below")],
        graders=[MathGrader()],  # not used: the reward above stands in for it
        algorithm="dapo",  # TRL's default loss: every token counts the same
        dynamic_sampling=False,
        clip_high=0.2,
        lora=LoraConfig(rank=RANK, alpha=ALPHA),
        learning_rate=LEARNING_RATE,
        steps=10**6,
        prompts_per_step=len(QUESTIONS),
        samples_per_prompt=samples,
        max_tokens=new,
        kl=KlConfig(coefficient=BETA, form="k3_loss"),
        weight_decay=0.0,
    )
    loaded = load(model_path)
    renderer = chat.renderer(loaded.tokenizer)
    policy = Policy(loaded, config, total_steps=config.steps, seed=0, reference=True)
    engine = NativeEngine(policy.view, renderer.decode, ())  # no stop tokens: every completion has the full length
    tasks = [Task(str(i), (Message("system", SYSTEM), Message("user", q))) for i, q in enumerate(QUESTIONS)]

    async def score(_: Task, rollout: Rollout) -> Grade:
        return Grade(reward(rollout.text))

    prompt = sum(len(renderer.prompt(task.messages)) for task in tasks)
    rounds = Rounds(config, tasks, engine, renderer, score, seed=0)
    steps = grpo(policy, engine, rounds.collect, config, seed=0, start=0, state={})
    while True:
        wait_for_turn()
        began = time.perf_counter()
        step = await anext(steps)
        report(time.perf_counter() - began, int(step.metrics["tokens/generated"]), prompt)


WORKERS: dict[str, Callable[[str, int, int], None]] = {"ours": work_ours, "trl": work_trl, "trl-default": work_trl_default}


# ------------------------------------------------------------------------------------------------ the harness


class Worker:
    """A side's process. `step` lets it take one step and waits for the record of it."""

    def __init__(self, side: str, arguments: argparse.Namespace, model: Path, out: Path) -> None:
        self.side = side
        self.log = out / f"grpo_step.{side}.log"
        scratch = out / f"{side}-scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        command = [PYTHONS[side], __file__, "--worker", side, "--model", model]
        command += ["--samples", str(arguments.samples), "--new", str(arguments.new)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "BENCHMARK_SCRATCH": str(scratch), "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
            env=environment,
            cwd=ROOT,
        )

    def step(self) -> dict[str, float]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("STEP "):
                return json.loads(line.removeprefix("STEP "))
        raise SystemExit(f"{self.side} ended early; its last words are in {self.log}:\n" + self.log.read_text()[-2000:])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def turns(workers: list[Worker], blocks: int, steps: int) -> Iterator[tuple[str, dict[str, float]]]:
    """A warm-up step each, then `blocks` times `steps` steps of each side in turn, in an order that turns round each time."""
    for worker in workers:
        warm = worker.step()
        print(f"{worker.side:>5}  warm-up {warm['seconds']:.1f} s", flush=True)
    for block in range(blocks):
        for worker in workers if block % 2 == 0 else reversed(workers):
            for _ in range(steps):
                record = worker.step()
                print(f"{worker.side:>5}  {record['seconds']:.1f} s", flush=True)
                yield worker.side, record


def summary(records: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> dict[str, Any]:
    for side, found in records.items():
        expected = len(QUESTIONS) * arguments.samples * arguments.new
        if {record["generated"] for record in found} != {expected}:
            raise SystemExit(f"{side} generated {[r['generated'] for r in found]} tokens; expected {expected} in every step")
    if len({record["prompt"] for found in records.values() for record in found}) != 1:
        raise SystemExit(f"the prompts differ in length: { {side: found[0]['prompt'] for side, found in records.items()} }")
    seconds = {side: [record["seconds"] for record in found] for side, found in records.items()}
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    return {
        "case": {"prompts": len(QUESTIONS), "samples": arguments.samples, "new_tokens": arguments.new, "rank": RANK, "beta": BETA},
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()},
        "seconds": seconds,
        "median_seconds": medians,
        "peak_gb": {side: found[-1]["peak_gb"] for side, found in records.items()},
        "ratio": {side: median / medians["ours"] for side, median in medians.items() if side != "ours"}
        if "ours" in medians
        else {},
    }


def model_directory() -> Path:
    """SmolLM2-135M-Instruct as a directory that both sides read."""
    code = "from posttrain.models.load import resolve; print(resolve('smollm2-135m-instruct'))"
    found = subprocess.run([PYTHONS["ours"], "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return Path(found.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=8, help="of each of the 4 prompts")
    parser.add_argument("--new", type=int, default=96, help="tokens of every completion")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="of each side in a block")
    parser.add_argument("--only", choices=sorted(WORKERS), help="one side, for a look")
    parser.add_argument(
        "--quick", action="store_true", help="2 samples of 16 tokens, one block: shows that it runs, measures nothing"
    )
    parser.add_argument("--worker", choices=sorted(WORKERS), help=argparse.SUPPRESS)
    parser.add_argument("--model", help="a directory; without it, SmolLM2-135M-Instruct")
    arguments = parser.parse_args()
    if arguments.worker:
        WORKERS[arguments.worker](arguments.model, arguments.samples, arguments.new)
        return
    if arguments.quick:
        arguments.samples, arguments.new, arguments.blocks, arguments.steps = 2, 16, 1, 1
    sides = [arguments.only] if arguments.only else list(WORKERS)
    if sides != ["ours"] and not PYTHONS["trl"].exists():
        raise SystemExit("TRL is not there. Run: make bench-setup")
    out = ROOT / "benchmarks" / "out"
    out.mkdir(exist_ok=True)
    model = Path(arguments.model).resolve() if arguments.model else model_directory()
    workers = [Worker(side, arguments, model, out) for side in sides]
    records: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    try:
        for side, record in turns(workers, arguments.blocks, arguments.steps):
            records[side].append(record)
    finally:
        for worker in workers:
            worker.stop()
    result = summary(records, arguments)
    (out / "grpo_step.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: result[name] for name in ("median_seconds", "peak_gb", "ratio") if name in result}, indent=2))


if __name__ == "__main__":
    main()
