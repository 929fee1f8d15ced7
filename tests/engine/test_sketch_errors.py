"""Sketches keep their stated error in at least 99 of 100 seeds, each a key with data of its own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.algebra.sketches import stated_error
from mlflow_core.engine.views.view import compute_view
from mlflow_core.spec import Agg, Entity, FeatureView, Function, ParquetSource
from mlflow_core.testing.histories import read_under

US = pa.timestamp("us", "UTC")
N = 2_000
VIEW = FeatureView(
    "v",
    entity=Entity("k"),
    source=ParquetSource("e", path="e.parquet", event_time="t", known_at="known"),
    features=[
        Agg("x", ["approx_quantile(0.5)", "approx_quantile(0.99)"], over="1h"),
        Agg("s", ["approx_count_distinct", "top_k(3)"], over="1h"),
    ],
)


def data_of(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One key: numbers with or without ties, names of which few or most differ, and how late each is known."""
    chance = np.random.default_rng(seed)
    x = chance.normal(size=N) if seed % 2 else np.round(chance.exponential(20, N))
    names = chance.zipf(1.3, N) % 5_000 if seed % 3 else chance.integers(0, 1_000 * (1 + seed % 7), N)
    return x, names, (chance.random(N) < 0.1) * chance.integers(0, 2 * N, N)


@pytest.mark.parametrize("seeds", [200, pytest.param(1_500, marks=pytest.mark.long)], ids=["short", "long"])
@pytest.mark.parametrize("clock", ["event", "known"])
def test_sketches_are_within_their_error_in_99_of_100_seeds(clock, seeds, record_property):
    data = [data_of(seed) for seed in range(seeds)]
    times = np.tile(np.arange(N), seeds)
    late = np.concatenate([known for _, _, known in data])
    events = pa.table(
        {
            "k": np.repeat(np.arange(seeds), N),
            "t": pa.array(times).cast(US),
            "known": pa.array(times + late).cast(US),
            "x": np.concatenate([x for x, _, _ in data]),
            "s": pa.array(np.concatenate([names for _, names, _ in data])).cast(pa.string()),
        }
    )
    rows = pa.table({"k": np.arange(seeds), "event_timestamp": pa.array(np.full(seeds, N)).cast(US)})
    answers = compute_view(events, rows, read_under(VIEW, clock)).to_pylist()

    within: Counter = Counter()
    for (x, names, known), answer in zip(data, answers, strict=True):
        seen = np.ones(N, bool) if clock == "event" else np.arange(N) + known <= N
        x, counts = x[seen], Counter(names[seen].tolist())
        for q in ("0.5", "0.99"):
            value = answer[f"x_approx_quantile_{q.replace('.', '_')}_1h"]
            error = stated_error(Function("approx_quantile", q))
            within[f"quantile {q}"] += bool(
                (x < value).mean() - error <= float(q) <= (x <= value).mean() + error
            )
        error = stated_error(Function("approx_count_distinct")) * len(counts)
        within["distinct"] += abs(answer["s_approx_count_distinct_1h"] - len(counts)) <= error
        best = [n for _, n in counts.most_common(3)]
        slack = stated_error(Function("top_k", 3)) * seen.sum()
        given = [counts[int(name)] for name in answer["s_top_k_3_1h"]]
        within["top"] += all(n - one <= slack for n, one in zip(best, given, strict=False))
    record_property("figures", f"{clock}, seeds 0 to {seeds - 1}, within the error: {dict(within)}")
    assert len(within) == 4
    assert {name: n for name, n in within.items() if n < 0.99 * seeds} == {}
