"""Other libraries write the case's rows: transformers' `generate`, its continuous batching, vLLM.

Every row has a length of its own and no stop token, so all programs write equally many tokens whatever they say; a row that
is done takes no part any more, as far as the library can do that. Temperature 1 over the whole vocabulary, bf16. Tokens
written are counted; prompts never are. Imports nothing of posttrain.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.workers.peer import keep_memory
from benchmarks.workers.stopwatch import Stopwatch

Rows = list[tuple[list[int], int]]
"""Prompt and number of tokens to write, one a row; the samples of a prompt stand together."""

WARM_UP_TOKENS = 8


def rows_of(case: dict[str, Any], at_most: int | None = None) -> Rows:
    together = zip(case["prompts"], case["lengths"], strict=True)
    return [(prompt, min(length, at_most or length)) for prompt, lengths in together for length in lengths]


def measured(case: dict[str, Any], seconds: float, write: Callable[[Rows], int]) -> dict[str, Any]:
    """Passes over the case after a short one to warm up. `write` returns how many tokens it wrote."""
    watch = Stopwatch(1, seconds)
    for rows in iter_rows(case):
        wrote, wanted = write(rows), sum(length for _, length in rows)
        if wrote != wanted:
            raise SystemExit(f"wrote {wrote} tokens; the case asks for {wanted}")
        if watch.lap():
            return watch.record(case["units"])
    raise AssertionError("unreachable")


def iter_rows(case: dict[str, Any]) -> Iterator[Rows]:
    yield rows_of(case, WARM_UP_TOKENS)
    while True:
        yield rows_of(case)


def case_of(specification: dict[str, Any]) -> dict[str, Any]:
    case: dict[str, Any] = json.loads(Path(specification["case"]).read_text())
    return case


def plain_model(case: dict[str, Any], settings: dict[str, Any]) -> Any:
    from transformers import AutoModelForCausalLM

    if settings.get("keep_memory"):
        keep_memory()
    return AutoModelForCausalLM.from_pretrained(case["model"], dtype=torch.bfloat16).eval()


@torch.inference_mode()
def likeliest(model: Any, prompts: list[list[int]]) -> list[int]:
    """The likeliest first token after each prompt, for the parity gate."""
    return [int(model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1].argmax()) for prompt in prompts]


def generate(specification: dict[str, Any]) -> dict[str, Any]:
    """`model.generate` on left-padded prompts. `rows` bounds a batch; `share` prefills a prompt's samples as rows of their own or,
    with num_return_sequences, expands them as the documentation shows."""
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Lengths(StoppingCriteria):
        """Ends each row at its own length."""

        def __init__(self, start: int, lengths: list[int]) -> None:
            self.ends = start + torch.tensor(lengths)

        def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return input_ids.shape[1] >= self.ends

    began = time.perf_counter()
    case, settings = case_of(specification), specification["settings"]
    model = plain_model(case, settings)

    def batch(rows: Rows) -> int:
        width, lengths = max(len(prompt) for prompt, _ in rows), [length for _, length in rows]
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt, _ in rows])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt, _ in rows])
        with torch.inference_mode(bool(settings.get("inference_mode"))):
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=max(lengths),
                eos_token_id=None,
                pad_token_id=0,
                stopping_criteria=StoppingCriteriaList([Lengths(width, lengths)]),
                **({"cache_implementation": settings["cache"]} if "cache" in settings else {}),
            )
        return sum(min(length, out.shape[1] - width) for length in lengths)

    def write(rows: Rows) -> int:
        size = settings.get("rows") or len(rows)
        return sum(batch(rows[start : start + size]) for start in range(0, len(rows), size))

    found = {"load_seconds": time.perf_counter() - began, "precision": precision(model)}
    done = measured(case, specification["seconds"], write)
    return {**found, **done, "digest": case["digest"], "first_tokens": likeliest(model, case["prompts"])}


def precision(model: Any) -> dict[str, str]:
    return {"compute": str(model.dtype).replace("torch.", "")}


def continuous(specification: dict[str, Any]) -> dict[str, Any]:
    """transformers' continuous batching, its manager alive from the first pass to the last. It sizes its cache by the free
    memory of a GPU and does not come back where there is none, so its pages are given here: enough for all rows at once."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    began = time.perf_counter()
    case, settings = case_of(specification), specification["settings"]
    model = plain_model(case, settings)
    longest = max(len(prompt) + length for prompt, length in rows_of(case))
    page = 32
    pages = len(rows_of(case)) * (-(-longest // page) + 1)
    sizes = ContinuousBatchingConfig(num_blocks=pages, page_size=page, max_batch_tokens=settings.get("batch_tokens", 512))
    config = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=-1, pad_token_id=0, max_new_tokens=longest
    )
    found = {"load_seconds": time.perf_counter() - began, "precision": precision(model)}
    first = likeliest(model, case["prompts"])  # before the manager changes the model's attention
    with model.continuous_batching_context_manager(generation_config=config, continuous_batching_config=sizes) as manager:

        def write(rows: Rows) -> int:
            for prompt, length in rows:
                manager.add_request(list(prompt), max_new_tokens=length)
            wrote = finished = 0
            while finished < len(rows):
                result = manager.get_result(timeout=1)
                if result is not None and result.is_finished():
                    if result.error:
                        raise SystemExit(f"continuous batching failed: {result.error}")
                    wrote, finished = wrote + len(result.generated_tokens), finished + 1
                elif result is None and not manager.is_running():
                    raise SystemExit("continuous batching ended early")
            return wrote

        done = measured(case, specification["seconds"], write)
    return {**found, **done, "digest": case["digest"], "first_tokens": first}


def vllm(specification: dict[str, Any]) -> dict[str, Any]:
    """vLLM's offline engine with its prefix cache, which shares a prompt's keys and values among its samples."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{int(os.environ['OMP_NUM_THREADS']) - 1}")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # one process, so that its memory is this process's
    from vllm import LLM, SamplingParams

    began = time.perf_counter()
    case, settings = case_of(specification), specification["settings"]
    engine = LLM(model=case["model"], dtype="bfloat16", max_model_len=1024, max_num_seqs=settings.get("rows", 256), seed=0)

    def write(rows: Rows) -> int:
        prompts = [{"prompt_token_ids": prompt} for prompt, _ in rows]
        wanted = [SamplingParams(temperature=1.0, max_tokens=length, ignore_eos=True, detokenize=False) for _, length in rows]
        return sum(len(one.outputs[0].token_ids) for one in engine.generate(prompts, wanted, use_tqdm=False))

    found = {"load_seconds": time.perf_counter() - began, "precision": {"compute": "bfloat16"}}
    done = measured(case, specification["seconds"], write)
    greedy = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True)
    answers = engine.generate([{"prompt_token_ids": prompt} for prompt in case["prompts"]], greedy, use_tqdm=False)
    return {**found, **done, "digest": case["digest"], "first_tokens": [one.outputs[0].token_ids[0] for one in answers]}
