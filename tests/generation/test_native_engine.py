"""The native engine against a plain forward of the whole sequence, and against itself under other batchings."""

from __future__ import annotations

import asyncio
import random
from array import array
from collections.abc import Sequence

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from posttrain.core.errors import PromiseBroken, UserError
from posttrain.core.types import Completion, Sampling
from posttrain.generation.native import NativeEngine, Request
from posttrain.models.load import Loaded
from posttrain.models.shapes import rounded_tokens
from posttrain.models.view import InferenceView


def engine(loaded: Loaded, stop_ids: Sequence[int] = (), **settings: int) -> NativeEngine:
    return NativeEngine(InferenceView(loaded.model), loaded.tokenizer.decode, stop_ids, **settings)


def prompts(count: int, *, longest: int = 40, seed: int = 0) -> list[array[int]]:
    stream = random.Random(seed)
    return [array("i", [stream.randrange(256) for _ in range(stream.randint(1, longest))]) for _ in range(count)]


def requests(count: int, samples: int, **sampling: object) -> list[Request]:
    settings = Sampling(**{"max_tokens": 20, **sampling})  # type: ignore[arg-type]
    return [Request(prompt, settings, 100 * i + s) for i, prompt in enumerate(prompts(count)) for s in range(samples)]


def written(completions: Sequence[Completion]) -> list[list[int]]:
    return [list(completion.tokens) for completion in completions]


def reference(loaded: Loaded) -> PreTrainedModel:
    """The same weights in transformers alone, with its own attention."""
    return AutoModelForCausalLM.from_pretrained(loaded.path, dtype=loaded.model.dtype, attn_implementation="sdpa").eval()


def full_logprobs(model: PreTrainedModel, request: Request, completion: Completion) -> torch.Tensor:
    """The same tokens scored in one forward."""
    tokens = torch.tensor([list(request.prompt) + list(completion.tokens)])
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits[0, len(request.prompt) - 1 : -1].float()
    scaled = torch.log_softmax(logits / (request.sampling.temperature or 1.0), -1)
    return scaled.gather(1, tokens[0, len(request.prompt) :, None])[:, 0]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_logprobs_are_those_of_a_full_forward(toy: Loaded, temperature: float) -> None:
    asked = requests(5, 3, temperature=temperature, top_k=0 if temperature else 3)[:-2]  # groups of 3, 3, 3, 3 and 1
    model = reference(toy)
    for request, completion in zip(asked, engine(toy).generate_batch(asked), strict=True):
        expected = full_logprobs(model, request, completion)
        assert torch.allclose(torch.tensor(completion.logprobs), expected, atol=1e-4)


def test_logprobs_stay_within_the_budget_in_bf16(smollm2: Loaded) -> None:
    texts = ["What is 17 + 25?", "Name the capital of France and say one thing about it.", "Hi"]
    asked = [Request(array("i", smollm2.tokenizer.encode(t)), Sampling(max_tokens=12), s) for t in texts for s in range(2)]
    done = engine(smollm2).generate_batch(asked)
    model = reference(smollm2)
    expected = torch.cat([full_logprobs(model, r, c) for r, c in zip(asked, done, strict=True)])
    gap = (torch.tensor([logprob for c in done for logprob in c.logprobs]) - expected).abs()
    assert gap.mean() < 0.1  # two bf16 computations of this model lie about 0.05 apart; a run's budget is 0.15


def test_greedy_writes_what_transformers_writes(toy: Loaded) -> None:
    prompt = prompts(1)[0]
    settings = {"do_sample": False, "max_new_tokens": 20, "eos_token_id": None, "pad_token_id": 0}
    expected = reference(toy).generate(input_ids=torch.tensor([list(prompt)]), **settings)
    done = engine(toy).generate_batch([Request(prompt, Sampling(temperature=0, max_tokens=20), 0)])
    assert list(done[0].tokens) == expected[0, len(prompt) :].tolist()


def test_sharing_a_prompt_reads_it_once_and_changes_nothing(toy: Loaded) -> None:
    asked = requests(3, 4)
    together = engine(toy)
    read: list[int] = []
    body = together._body
    together._body = lambda tokens, positions, plan: read.append(tokens.numel()) or body(tokens, positions, plan)  # type: ignore[func-returns-value,method-assign]
    alone = [engine(toy).generate_batch([request])[0] for request in asked]
    assert written(together.generate_batch(asked)) == written(alone)
    assert read[0] == rounded_tokens(sum(len(prompt) for prompt in prompts(3)))  # one prefill, each prompt once


@pytest.mark.parametrize("max_rows", [1, 3, 8])
def test_refilled_slots_write_what_unlimited_slots_write(toy: Loaded, max_rows: int) -> None:
    stop_ids = range(60)  # ends rows at different lengths, so that slots empty and fill all the time
    asked = requests(6, 4)
    everything = engine(toy, stop_ids).generate_batch(asked)
    assert len({len(completion.tokens) for completion in everything}) > 4
    assert written(engine(toy, stop_ids, max_rows=max_rows).generate_batch(asked)) == written(everything)


def test_a_tight_cache_writes_the_same_and_holds_less(toy: Loaded) -> None:
    asked = requests(6, 4, max_tokens=70)
    roomy, tight = engine(toy), engine(toy, cache_tokens=600)
    assert written(tight.generate_batch(asked)) == written(roomy.generate_batch(asked))
    for block in (tight._own, tight._prompts):
        assert block.slots * block.length <= 600
    assert roomy._own.slots * roomy._own.length > 600


def test_order_of_requests_does_not_matter(toy: Loaded) -> None:
    asked = requests(5, 3)
    shuffled = random.Random(1).sample(range(len(asked)), len(asked))
    done = engine(toy, max_rows=4).generate_batch([asked[i] for i in shuffled])
    assert [list(done[shuffled.index(i)].tokens) for i in range(len(asked))] == written(engine(toy).generate_batch(asked))


def test_a_stream_depends_on_its_seed_alone(toy: Loaded) -> None:
    prompt, sampling = prompts(1)[0], Sampling(max_tokens=16)
    first, again, other = engine(toy).generate_batch([Request(prompt, sampling, seed) for seed in (7, 7, 8)])
    assert first.tokens == again.tokens != other.tokens


def test_bf16_repeats_bit_for_bit(smollm2: Loaded) -> None:
    asked = [Request(array("i", [1, 2, 3 + i]), Sampling(max_tokens=4), i) for i in range(3)]
    first, second = (engine(smollm2).generate_batch(asked) for _ in range(2))
    assert first == second


def test_stop_ids_end_a_row_and_stay_out_of_its_text(toy: Loaded) -> None:
    request = requests(1, 1, max_tokens=40)[0]
    free = engine(toy).generate_batch([request])[0]
    stop = free.tokens[5]
    done = engine(toy, [stop]).generate_batch([request])[0]
    end = free.tokens.index(stop)
    assert (done.finish, done.tokens) == ("stop", free.tokens[: end + 1])
    assert done.text == toy.tokenizer.decode(free.tokens[:end])
    assert (free.finish, len(free.tokens), free.text) == ("length", 40, toy.tokenizer.decode(free.tokens))


def test_a_stop_string_is_found_across_tokens(toy: Loaded) -> None:
    request = requests(1, 1, max_tokens=40)[0]
    free = engine(toy).generate_batch([request])[0]
    names = engine(toy)
    names.decode = lambda tokens: "".join(f"<{token}>" for token in tokens)
    stop = f"{free.tokens[9]}><{free.tokens[10]}"  # begins inside one token and ends inside the next
    done = names.generate_batch([Request(request.prompt, Sampling(max_tokens=40, stop=("never", stop)), request.seed)])[0]
    assert (done.finish, done.tokens) == ("stop", free.tokens[:11])
    assert done.text == names.decode(free.tokens[:9]) + "<"


def test_the_context_limits_the_completion_and_refuses_the_prompt(toy: Loaded) -> None:
    context = toy.model.config.max_position_embeddings
    almost = Request(array("i", [65] * (context - 3)), Sampling(max_tokens=20), 0)
    done = engine(toy).generate_batch([almost])[0]
    assert (len(done.tokens), done.finish) == (3, "length")
    for prompt, said in (([65] * context, f"{context} tokens"), ([], "empty"), ([259], "outside"), ([-1], "outside")):
        with pytest.raises(UserError, match=said):
            engine(toy).generate_batch([Request(array("i", prompt), Sampling(), 0)])
    with pytest.raises(UserError, match="cache_tokens"):
        engine(toy, cache_tokens=128).generate_batch([Request(array("i", [65] * 100), Sampling(), 0)])


def test_logits_that_are_not_finite_are_an_error(toy: Loaded) -> None:
    with torch.no_grad():
        toy.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(PromiseBroken, match="not finite"):
        engine(toy).generate_batch(requests(1, 1))


# Inside an event loop


def asked_together(native: NativeEngine, asked: Sequence[Request]) -> list[Completion]:
    async def main() -> list[Completion]:
        return await asyncio.gather(*(native.generate(r.prompt, r.sampling, seed=r.seed) for r in asked))

    return asyncio.run(main())


def test_calls_of_one_turn_are_one_batch(toy: Loaded) -> None:
    asked = requests(4, 3)
    native = engine(toy)
    admitted: list[int] = []
    admit = native._scheduler.admit

    def spy() -> object:
        rows, groups = admit()
        admitted.append(len(rows))
        return rows, groups

    native._scheduler.admit = spy  # type: ignore[method-assign,assignment]
    assert asked_together(native, asked) == engine(toy).generate_batch(asked)
    assert admitted[0] == len(asked)
    assert asked_together(native, asked) == engine(toy).generate_batch(asked)  # and again in a new loop


def test_the_loop_turns_between_steps(toy: Loaded) -> None:
    async def main() -> int:
        work = asyncio.ensure_future(engine(toy).generate(prompts(1)[0], Sampling(max_tokens=30), seed=0))
        turns = 0
        while not work.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(main()) >= 30


def test_a_cancelled_call_frees_its_place(toy: Loaded) -> None:
    asked = requests(3, 2, max_tokens=30)
    expected = engine(toy).generate_batch(asked)
    native = engine(toy, max_rows=4)

    async def main() -> None:
        calls = [asyncio.ensure_future(native.generate(r.prompt, r.sampling, seed=r.seed)) for r in asked]
        for _ in range(8):
            await asyncio.sleep(0)
        running, waiting = calls[1], calls[5]
        assert (len(native._scheduler.rows), sum(map(len, native._scheduler.waiting.values()))) == (4, 2)
        running.cancel()
        waiting.cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in done] == [False, True, False, False, False, True]
        kept = [0, 2, 3, 4]
        assert written([done[i] for i in kept]) == written([expected[i] for i in kept])

    asyncio.run(main())
    assert not native._scheduler.busy
    assert not native._scheduler.groups


def test_an_error_reaches_every_caller_and_the_engine_lives_on(toy: Loaded) -> None:
    asked = requests(3, 2)
    native = engine(toy, max_rows=2)
    body, calls = native._body, []

    def broken(*arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("the machine is on fire")
        return body(*arguments)  # type: ignore[arg-type]

    native._body = broken  # type: ignore[method-assign]

    async def main() -> list[object]:
        return await asyncio.gather(*(native.generate(r.prompt, r.sampling, seed=r.seed) for r in asked), return_exceptions=True)

    assert [str(result) for result in asyncio.run(main())] == ["the machine is on fire"] * 6
    assert written(asked_together(native, asked)) == written(engine(toy).generate_batch(asked))


def test_a_loop_that_ends_early_leaves_a_clean_engine(toy: Loaded) -> None:
    native = engine(toy)

    async def main() -> None:
        asyncio.ensure_future(native.generate(prompts(1)[0], Sampling(max_tokens=200), seed=0))  # noqa: RUF006
        for _ in range(6):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert not native._scheduler.busy
    assert len(asked_together(native, requests(1, 1))) == 1


def test_update_changes_what_is_written_from_then_on(toy: Loaded) -> None:
    asked = requests(2, 2)
    native = engine(toy, max_rows=2)
    before = native.generate_batch(asked)
    assert {v for completion in before for v in completion.versions} == {0}

    async def main() -> list[Completion]:
        calls = [asyncio.ensure_future(native.generate(r.prompt, r.sampling, seed=r.seed)) for r in asked]
        for _ in range(8):
            await asyncio.sleep(0)
        with torch.no_grad():
            toy.model.model.embed_tokens.weight.mul_(2.0)
        await native.update(3)
        return await asyncio.gather(*calls)

    during = asyncio.run(main())
    assert list(during[0].versions) == sorted(during[0].versions)
    assert set(during[0].versions) == {0, 3}
    written_before = list(during[0].versions).index(3)
    assert during[0].tokens[:written_before] == before[0].tokens[:written_before]
    fresh = engine(toy, version=3).generate_batch(asked)
    assert written(during[2:]) == written(fresh[2:])  # admitted after the update: new weights, nothing of the old prompts
    assert {v for completion in during[2:] for v in completion.versions} == {3}
    assert written(native.generate_batch(asked)) == written(fresh) != written(before)


def test_waiting_samples_of_a_running_prompt_read_it_again_after_an_update(toy: Loaded) -> None:
    asked = requests(1, 4)
    native = engine(toy, max_rows=2)

    async def main() -> list[Completion]:
        calls = [asyncio.ensure_future(native.generate(r.prompt, r.sampling, seed=r.seed)) for r in asked]
        for _ in range(6):
            await asyncio.sleep(0)
        with torch.no_grad():
            toy.model.model.embed_tokens.weight.mul_(2.0)
        await native.update(1)
        return await asyncio.gather(*calls)

    during = asyncio.run(main())
    assert written(during[2:]) == written(engine(toy).generate_batch(asked[2:]))
