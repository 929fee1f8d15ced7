"""Training sets as a dataset build leaves them: Parquet shards in the order of time, with a label that can be learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_core.train.data.training_set import TrainingData

__all__ = ["training_set"]

SHARDS = 8
GROUP = 65_536
DAY = 86_400_000_000
START = 1_700_000_000_000_000


def training_set(
    folder: Path, rows: int, features: int, *, seed: int = 0, hard: bool = False, sequences: int = 0
) -> TrainingData:
    """Write a training set, with a tenth of its rows again for validation, or find the one that is there.

    Args:
        folder: Where.
        rows: Rows of the training part.
        features: float32 columns, of which ten tell of the label.
        seed: Of everything drawn.
        hard: Whether one in ten values is missing, a tenth of the features are strings whose dictionaries differ from
            shard to shard, one is constant, and what a feature means drifts with time.
        sequences: How many of the last events three more columns hold, as lists; 0 for none.

    Returns:
        The training set.
    """
    names = [f"f{number:02d}" for number in range(features)]
    shards: dict[str, tuple[Path, ...]] = {}
    weights = np.random.default_rng(seed).normal(0, 0.4, (10, 2))
    for part, total, first in (("train", rows, 0), ("validate", rows // 10, SHARDS)):
        paths = []
        for number in range(SHARDS):
            path = folder / f"{part}-{number}.parquet"
            paths.append(path)
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                random = np.random.default_rng([seed, first, number])
                table = _shard(random, total // SHARDS, names, weights, number, hard=hard)
                table = _with_sequences(random, table, sequences)
                half = path.with_suffix(".half")
                pq.write_table(table, half, row_group_size=GROUP)
                half.rename(path)
        shards[part] = tuple(paths)
    lists = [f"s{number}" for number in range(3 if sequences else 0)]
    return TrainingData(shards=shards, label="label", features=(*names, *lists))


def _shard(
    random: np.random.Generator, rows: int, names: list[str], weights: np.ndarray, number: int, *, hard: bool
) -> pa.Table:
    matrix = random.standard_normal((len(names), rows), dtype=np.float32)
    told = matrix[:10]
    logit = weights[:, 0] @ told + weights[:, 1] @ (told * np.roll(told, 1, axis=0)) - 0.5
    if hard:
        logit += 0.1 * number * told[0]
    label = random.random(rows) < 1 / (1 + np.exp(-logit))
    times = START + number * DAY + np.sort(random.integers(0, DAY, rows))
    columns: dict[str, pa.Array] = {"event_timestamp": pa.array(times, pa.timestamp("us", "UTC"))}
    for position, name in enumerate(names):
        values = pa.array(matrix[position])
        if hard and position % 10 == 9:
            values = pa.array([f"c{int(v * 2) + number}" for v in matrix[position]]).dictionary_encode()
        elif hard and position == len(names) // 2:
            values = pa.array(np.zeros(rows, np.float32))
        elif hard:
            values = pa.array(matrix[position], mask=random.random(rows) < 0.1)
        columns[name] = values
    return pa.table({**columns, "label": label})


def _with_sequences(random: np.random.Generator, table: pa.Table, length: int) -> pa.Table:
    if not length:
        return table
    lengths = random.integers(length // 2, length + 1, table.num_rows)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    for number in range(3):
        values = pa.array(random.standard_normal(int(lengths.sum()), dtype=np.float32))
        table = table.append_column(f"s{number}", pa.ListArray.from_arrays(offsets, values))
    return table
