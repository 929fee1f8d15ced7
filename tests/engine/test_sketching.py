"""Sketches over windows: from values where windows are small, from trees of blocks where they are long."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from mlflow_core.algebra.sketches import stated_error
from mlflow_core.engine.views import sketching
from mlflow_core.engine.views.view import compute_view
from mlflow_core.spec import Agg, Entity, FeatureView, Function, ParquetSource
from mlflow_core.testing.histories import random_history, read_under
from tests.engine.comparison import mismatches

SEED = 20131120


@pytest.mark.parametrize("clock", ["event", "known", "served"])
@pytest.mark.parametrize("block", [1, 3, 256])
def test_trees_of_any_block_say_what_a_plain_loop_says_of_windows_that_sketches_know_exactly(
    monkeypatch, block, clock
):
    whole = sketching.sketched
    monkeypatch.setattr(sketching, "BLOCK", block)
    monkeypatch.setattr(sketching, "sketched", lambda function: replace(whole(function), exact_up_to=1))
    random = Random(SEED)
    counted: Counter = Counter()
    for _ in range(12):
        assert mismatches(random_history(random, events=90, rows=40), clock, counted) == []
    assert (
        sum(
            n
            for (label, _), n in counted.items()
            if label.startswith(("approx", "top_k")) and "empty" in label
        )
        > 300
    )


def long_windows(n: int, n_rows: int, *, late: bool):
    rng = np.random.default_rng(SEED)
    time = np.sort(rng.integers(0, 10**9, n))
    known = time + (rng.random(n) < 0.1) * rng.integers(0, 10**8, n) * late
    names = np.array([f"s{i}" for i in range(4000)])
    events = pa.table(
        {
            "k": rng.integers(0, 2, n),
            "t": moments(time),
            "known": moments(known),
            "x": rng.normal(size=n),
            "s": names[np.minimum(rng.zipf(1.2, n), 3999)],
            "id": pa.array(rng.integers(0, n, n)),
        }
    )
    rows = pa.table(
        {"k": rng.integers(0, 2, n_rows), "event_timestamp": moments(rng.integers(0, 11 * 10**8, n_rows))}
    )
    return events, rows


def moments(times) -> pa.Array:
    return pa.array(times, pa.int64()).cast(pa.timestamp("us", "UTC"))


def long_view(**source) -> FeatureView:
    return FeatureView(
        "v",
        entity=Entity("k"),
        source=ParquetSource("e", path="e.parquet", event_time="t", **source),
        features=[
            Agg(
                "x",
                ["approx_quantile(0.9)", "approx_quantile(0)", "approx_quantile(1)"],
                over="250s",
                where="x < 2",
            ),
            Agg("s", ["approx_count_distinct", "top_k(5)", "count_distinct"], over="250s", offset="10s"),
        ],
    )


@pytest.mark.parametrize(
    ("source", "clock"), [({}, "event"), ({"known_at": "known", "event_id": "id"}, "known")]
)
def test_long_windows_are_within_the_stated_error(source, clock, record_property):
    events, rows = long_windows(40_000, 150, late=clock == "known")
    view = long_view(**source)
    out = compute_view(events, rows, read_under(view, clock))
    assert out.equals(compute_view(events, rows, read_under(view, clock)))
    k, t, known, x, s, ids = (
        events[name].cast(pa.int64()).to_numpy()
        if name in ("t", "known")
        else np.array(events[name].to_pylist())
        for name in ("k", "t", "known", "x", "s", "id")
    )
    beyond, longest = Counter(), 0
    for row, (key, at) in enumerate(
        zip(rows["k"].to_pylist(), rows["event_timestamp"].cast(pa.int64()).to_pylist(), strict=True)
    ):
        seen = t <= at
        if clock == "known":
            seen &= known <= at
            last = {}
            for place in np.flatnonzero(seen):
                best = last.get(ids[place])
                if best is None or (known[place], place) > (known[best], best):
                    last[ids[place]] = place
            seen = np.isin(np.arange(len(t)), list(last.values()))
        window = x[seen & (k == key) & (t > at - 250_000_000) & (x < 2)]
        names = s[seen & (k == key) & (t > at - 260_000_000) & (t <= at - 10_000_000)]
        longest = max(longest, len(window))
        for q, name in ((0.9, "0_9"), (0.0, "0"), (1.0, "1")):
            answer = out[f"x_approx_quantile_{name}_250s"][row].as_py()
            error = 0.0133
            beyond["quantile"] += not (
                answer is None
                if len(window) == 0
                else (window < answer).mean() - error <= q <= (window <= answer).mean() + error
            )
        counts = Counter(names.tolist())
        distinct = out["s_approx_count_distinct_250s_lag10s"][row].as_py()
        assert out["s_count_distinct_250s_lag10s"][row].as_py() == len(counts)
        beyond["distinct"] += abs(distinct - len(counts)) > stated_error(
            Function("approx_count_distinct")
        ) * len(counts)
        top = out["s_top_k_5_250s_lag10s"][row].as_py() or []
        best = sorted(counts.values(), reverse=True)[:5]
        slack = stated_error(Function("top_k", 5)) * len(names)
        assert all(abs(counts[name] - n) <= slack for name, n in zip(top, best, strict=True)), row
    record_property(
        "figures",
        f"{rows.num_rows} rows, windows of up to {longest} events, beyond the error: {dict(beyond)}",
    )
    assert longest > 4_000
    assert beyond["quantile"] <= 4
    assert beyond["distinct"] <= 1


def test_an_empty_window_and_an_unknown_key_count_zero_and_are_null_otherwise():
    events, _ = long_windows(10, 1, late=False)
    rows = pa.table({"k": [0, 77], "event_timestamp": moments([10**13, 5])})
    out = compute_view(events, rows, read_under(long_view(), "event"))

    assert out["s_approx_count_distinct_250s_lag10s"].to_pylist() == [0, 0]
    assert out["x_approx_quantile_0_9_250s"].to_pylist() == [None, None]
    assert out["s_top_k_5_250s_lag10s"].to_pylist() == [None, None]
    assert [str(field.type) for field in out.schema][-4:] == [
        "double",
        "int64",
        "list<item: string>",
        "int64",
    ]


def test_lists_keep_the_type_of_the_column():
    import uuid

    one, two = uuid.UUID(int=1), uuid.UUID(int=2)
    storage = pa.array([one.bytes, two.bytes, two.bytes], pa.binary(16))
    times = moments([5, 6, 6])
    events = pa.table(
        {
            "t": moments([1, 2, 3]),
            "u": pa.ExtensionArray.from_storage(pa.uuid(), storage),
            "w": times,
            "b": pa.array([b"x", b"", b""], pa.binary()),
            "f": pa.array([0.5, 1.5, 1.5], pa.float32()),
            "i": pa.array([1, 2, 2], pa.int32()),
        }
    )
    source = ParquetSource("e", path="e.parquet", event_time="t")
    view = FeatureView(
        "v",
        source=source,
        features=[Agg(name, "top_k(2)", over="1h", name=f"top_{name}") for name in "uwbfi"],
    )
    out = compute_view(events, pa.table({"event_timestamp": moments([10])}), read_under(view, "event"))

    for name in "uwbfi":
        assert out[f"top_{name}"].type == pa.list_(events[name].type)
    assert out["top_u"].to_pylist() == [[two, one]]
    assert out["top_w"].to_pylist() == [[times[1].as_py(), times[0].as_py()]]
    assert out["top_b"].to_pylist() == [[b"", b"x"]]
    assert out["top_f"].to_pylist() == [[1.5, 0.5]]
    assert out["top_i"].to_pylist() == [[2, 1]]
