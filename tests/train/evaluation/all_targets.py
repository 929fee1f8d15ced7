"""Trees that say several targets at once, which XGBoost explains less of than of others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from mlflow_core.spec.trainer import XGBoost
from mlflow_core.train.models.model import Model
from tests.train.made import fit, table, write

__all__ = ["of_all_targets"]


def of_all_targets(folder: Path) -> tuple[Model, pa.Table]:
    """A model of them, and the rows that it was trained on."""
    rows = table(300, 1)
    parts = {part: [rows] for part in ("train", "validate", "test")}
    data = write(folder / "data", parts, label="amount", features=("delay", "gust"), request=())
    trainer = XGBoost(
        objective="reg:squarederror",
        targets=("label",),
        rounds=3,
        params={"multi_strategy": "multi_output_tree"},
    )
    return fit(trainer, data, workdir=folder), rows
