"""What counts as work: useful tokens, digests, whole passes, the bound's products."""

from __future__ import annotations

from benchmarks.digest import digest, useful_tokens
from benchmarks.workers.stopwatch import Stopwatch


def test_useful_tokens_count_a_shared_context_once_and_every_loss_token():
    rows = [([1, 2, 3, 4], [0, 0, 0, 1]), ([1, 2, 3, 5, 6], [0, 0, 0, 1, 1])]
    assert useful_tokens(rows) == 3 + 3
    assert useful_tokens(rows[:1] * 2) == 2 + 3  # a row given twice: its loss twice, its context once


def test_equal_tokens_at_other_places_are_other_contexts():
    assert useful_tokens([([7, 1, 9], [0, 0, 1]), ([8, 1, 9], [0, 0, 1])]) == 2 + 4


def test_the_digest_sees_ids_masks_order_and_where_rows_end():
    rows = [([1, 2, 3], [0, 1, 1]), ([4, 5], [0, 1])]
    others = [
        [([1, 2, 4], [0, 1, 1]), ([4, 5], [0, 1])],
        [([1, 2, 3], [0, 0, 1]), ([4, 5], [0, 1])],
        rows[::-1],
        [([1, 2], [0, 1]), ([3, 4, 5], [1, 0, 1])],
    ]
    assert digest(rows) == digest([(tuple(tokens), tuple(mask)) for tokens, mask in rows])
    assert len({digest(rows), *map(digest, others)}) == 5


def test_a_watch_stops_after_whole_passes_and_enough_seconds(monkeypatch):
    times = iter([10.0, 11.0, 12.0, 13.0, 14.0])
    monkeypatch.setattr("benchmarks.workers.stopwatch.time.perf_counter", lambda: next(times))
    watch = Stopwatch(steps=2, seconds=3)
    assert [watch.lap() for _ in range(5)] == [False, False, False, False, True]
    record = watch.record(units=50)
    assert (record["seconds"], record["work"], record["measured_steps"]) == (4.0, 100.0, 4)


def test_the_warm_up_batch_is_never_timed():
    assert [Stopwatch(3, 0).batch(step) for step in range(8)] == [0, 1, 2, 3, 1, 2, 3, 1]


def test_the_bound_multiplies_what_a_llama_layer_multiplies():
    from benchmarks.workers.roofline import layers, training_products

    config = {
        "hidden_size": 8,
        "intermediate_size": 20,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 3,
        "vocab_size": 100,
    }
    # per token and layer: q 8·8, k and v 8·4 each, o 8·8, gate and up 8·20 each, down 20·8
    assert sum(rows * inputs * outputs for rows, inputs, outputs in layers(config, 1)) == 3 * (64 + 64 + 64 + 320 + 160)
    forward = 5 * 3 * 672 + 2 * 800
    adapters = training_products(config, rows=5, scored=2, full=False)
    everything = training_products(config, rows=5, scored=2, full=True)
    assert sum(a * b * c for a, b, c in adapters) == 2 * forward
    assert sum(a * b * c for a, b, c in everything) == 3 * forward
