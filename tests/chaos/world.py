"""One history big enough to be hit at any moment of its retrieval, and what must come out of it.

Light to import, because processes of its own are started on it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.engine.retrieve import retrieve, retrieve_to_shards
from mlflow_core.engine.route import Route
from mlflow_core.plan.retrieval import RetrievalPlan, plan_retrieval
from mlflow_core.spec import Agg, Entity, FeatureService, FeatureView, ParquetSource
from mlflow_core.telemetry import Progress

SEED = 20131115
N_FILES, ROWS_A_FILE, N_KEYS, N_ROWS = 12, 4_000, 500, 20_000
BUCKETS, ROWS_PER_SHARD = 12, 2_000
HOUR = 3_600_000_000


def plan(folder: str = "events") -> RetrievalPlan:
    """Two views of different keys over one folder of files."""
    source = ParquetSource("events", path=folder, event_time="t", known_at="known")
    views = [
        FeatureView(
            f"of_{key}",
            entity=Entity(key),
            source=source,
            features=[
                "x",
                Agg("x", "sum", over="3h", name="sum_k"),
                Agg("x", "quantile(0.5)", over="1d", name="half"),
            ]
            if key == "k"
            else [Agg("x", "mean", over="6h", name="mean_j"), Agg("x", "count", over="6h", name="n_j")],
        )
        for key in ("k", "j")
    ]
    return plan_retrieval(FeatureService("m", views))


@dataclass(frozen=True)
class World:
    """Where everything is.

    Attributes:
        base: The folder with the sources.
        work: The folder for drafts.
        out: The folder for shards.
        source: The folder of the history, from ``base``, or its url.
    """

    base: Path
    work: Path
    out: Path
    source: str = "events"

    @classmethod
    def make(cls, folder: Path) -> World:
        """Write the history into a folder."""
        rng = np.random.default_rng(SEED)
        (folder / "events").mkdir(parents=True)
        for number in range(N_FILES):
            t = rng.integers(0, 5 * 24 * HOUR, ROWS_A_FILE)
            table = {
                "k": rng.integers(0, N_KEYS, ROWS_A_FILE),
                "j": rng.integers(0, 7, ROWS_A_FILE),
                "x": rng.normal(size=ROWS_A_FILE),
                "t": moments(t),
                "known": moments(t + rng.integers(0, 3 * HOUR, ROWS_A_FILE)),
            }
            pq.write_table(pa.table(table), folder / "events" / f"{number:03d}.parquet")
        return cls(folder, folder / "work", folder / "out")

    def rows(self) -> pa.Table:
        """The entity rows."""
        rng = np.random.default_rng(SEED + 1)
        return pa.table(
            {
                "k": rng.integers(0, N_KEYS + 20, N_ROWS),
                "j": rng.integers(0, 8, N_ROWS),
                "event_timestamp": moments(rng.integers(0, 6 * 24 * HOUR, N_ROWS)),
            }
        )

    def truth(self) -> pa.Table:
        """What one process computes."""
        return retrieve(plan(), self.rows(), base=str(self.base))

    def shards(self, route: Route, progress: Progress | None = None) -> pa.Table:
        """Retrieve to shards by a route, and read them."""
        paths = retrieve_to_shards(
            plan(self.source),
            self.rows(),
            base=str(self.base),
            out=self.out,
            route=route,
            rows_per_shard=ROWS_PER_SHARD,
            **({} if progress is None else {"progress": progress}),
        )
        assert [path.name for path in paths] == [f"part-{i:05d}.parquet" for i in range(len(paths))]
        return pa.concat_tables([pq.read_table(path) for path in paths])

    def left(self) -> list[str]:
        """What lies in the work folder, in the output beside the shards, and half-made or held in the layout cache.

        Tasks that were cancelled while at work run to their end, so they are given a while to clean up.
        """
        deadline = time.monotonic() + 10.0
        while (found := self._lying_about()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _lying_about(self) -> list[str]:
        layouts = self.work.with_name(f"{self.work.name}-layouts")
        return sorted(
            str(path)
            for folder in (self.work, self.out, layouts)
            # Not rglob: a folder that is removed meanwhile would be an error.
            for at, _, names in os.walk(folder)
            for path in (Path(at, name) for name in names)
            if path.is_file()
            and not (folder == self.out and path.name.startswith("part-"))
            and not (folder == layouts and is_whole(path.relative_to(layouts)))
        )


def is_whole(path: Path) -> bool:
    """Whether a file of the layout cache's is no draft, and nobody says that he uses an entry."""
    return not any(part.startswith((".draft", ".gone", ".lease")) for part in path.parts)


def moments(us: np.ndarray) -> pa.Array:
    """Microseconds as times."""
    return pa.array(us, pa.int64()).cast(pa.timestamp("us", "UTC"))


def same_bits(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables are equal to the bit: schema, order, values, signs of zero and not-a-numbers."""
    if one.schema != other.schema or one.num_rows != other.num_rows:
        return False
    return all(bits(one[name]) == bits(other[name]) for name in one.column_names)


def bits(column: pa.ChunkedArray) -> tuple[bytes, bytes]:
    """A column's values and where they are null."""
    array = column.combine_chunks()
    null = np.asarray(array.is_null())
    values = np.asarray(
        array.fill_null(0) if not pa.types.is_timestamp(array.type) else array.cast(pa.int64())
    )
    return values.tobytes(), null.tobytes()
