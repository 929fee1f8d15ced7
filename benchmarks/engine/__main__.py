"""``make bench-engine``: point-in-time retrieval, ours against pandas, DuckDB and Feast's own offline store."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import mlflow_core as ml
from benchmarks.engine.data import Case, benign, hard
from benchmarks.engine.peers import duckdb_asof, duckdb_windows, feast_dask, pandas_asof
from benchmarks.results import Row, report, seconds
from mlflow_core.engine.retrieve import retrieve
from mlflow_core.plan.retrieval import plan_retrieval

SEED = 20240101
HOURS = (6, 24, 72)


def ours(case: Case, *features: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Retrieve features of the case's events as of its entity rows."""
    view = ml.FeatureView("v", entity=ml.Entity("key"), source=case.source(), features=features)
    table = retrieve(plan_retrieval(ml.FeatureService("s", [view])), case.rows, base=str(case.folder))
    return {name: table[name].to_numpy().astype(float) for name in view.feature_names}


def same(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> bool:
    """Whether two columns hold the same values and the same nulls, floats within 1e-9."""
    return bool(np.allclose(left, right, rtol=1e-9, atol=1e-9, equal_nan=True))


def latest_values(folder: Path, n_events: int, n_rows: int) -> list[Row]:
    """The as-of join."""
    case = benign(folder, n_events, n_rows, n_keys=n_events // 100, seed=SEED)
    mine, answer = seconds(lambda: ours(case, "value"))
    rows = []
    for peer, call in (("pandas merge_asof", pandas_asof), ("DuckDB ASOF", duckdb_asof)):
        theirs, values = seconds(lambda call=call: call(case))
        equal = same(answer["value"], values)
        rows.append(
            Row(
                f"latest value, {n_events:,} x {n_rows:,}",
                "wall s",
                mine,
                peer,
                theirs,
                theirs / mine,
                equal=equal,
            )
        )
    return rows


def windows(folder: Path, n_events: int, n_rows: int) -> list[Row]:
    """Five aggregates over three windows."""
    case = benign(folder, n_events, n_rows, n_keys=n_events // 1000, seed=SEED)
    functions = ["count", "sum", "mean", "min", "max"]
    mine, answer = seconds(
        lambda: ours(case, ml.Agg("value", functions, over=[f"{hour}h" for hour in HOURS]))
    )
    theirs, values = seconds(lambda: duckdb_windows(case, HOURS))
    equal = all(same(answer[name], values[name]) for name in answer)
    name = f"5 aggregates x 3 windows, {n_events:,} x {n_rows:,}"
    return [Row(name, "wall s", mine, "DuckDB range join", theirs, theirs / mine, equal=equal)]


def feasts_own(folder: Path, size: int) -> list[Row]:
    """Feast's default store: time on benign data, then wrong and lost values on hard data."""
    case = benign(folder / "benign", size, size, n_keys=20, seed=SEED)
    mine, answer = seconds(lambda: ours(case, "value"))
    theirs, frame = seconds(lambda: feast_dask(case), runs=1)
    known = ~np.isnan(answer["value"])
    frame = frame.set_index("row")["value"].reindex(range(size))
    equal = same(answer["value"][known], frame.to_numpy()[known])
    timed = Row(
        f"latest value, {size:,} x {size:,}", "wall s", mine, "Feast dask", theirs, theirs / mine, equal=equal
    )

    tied = hard(folder / "hard", size, size, n_keys=50, seed=SEED)
    truth = ours(tied, "value")["value"]
    kept = feast_dask(tied).drop_duplicates("row").set_index("row")["value"].reindex(range(size)).to_numpy()
    wrong = float(((truth != kept) & ~(np.isnan(truth) & np.isnan(kept))).sum())
    counted = Row(f"ties, {size:,} x {size:,}", "wrong or lost values", 0.0, "Feast dask", wrong, wrong)
    return [timed, counted]


def main() -> None:
    """Run all cases and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small sizes: shows equality, not speed")
    small = parser.parse_args().small
    with tempfile.TemporaryDirectory(prefix="bench-engine-") as scratch:
        folder = Path(scratch)
        n = 20_000 if small else 1_000_000
        rows = latest_values(folder / "latest", n, n // 10)
        rows += windows(folder / "windows", n, n // 10)
        rows += feasts_own(folder / "feast", 500 if small else 3_000)
    report("engine", rows)
    if not all(row.equal for row in rows if row.equal is not None):
        raise SystemExit("a peer's values differ on benign data: the comparison says nothing")


if __name__ == "__main__":
    main()
