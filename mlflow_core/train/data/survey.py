"""The first look at a training set: every shard's summary, made where the shards are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_core.telemetry.progress import Progress, SilentProgress
from mlflow_core.train.data.profile import ShardProfile, profile_shard
from mlflow_core.train.data.spread import spread
from mlflow_core.train.data.training_set import PARTS, TrainingData

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["survey"]


def survey(
    data: TrainingData,
    *,
    further: Sequence[str] = (),
    labelled: bool = True,
    parts: Sequence[str] = PARTS[:2],
    client: Client | None = None,
    progress: Progress | None = None,
) -> Mapping[str, tuple[ShardProfile, ...]]:
    """Summarise the shards; into the features it looks in the training part only.

    Args:
        data: The training set.
        further: Columns of numbers beside label and features that a trainer reads, such as weights.
        labelled: Whether the trainer reads the label.
        parts: Which parts.
        client: The cluster on whose workers they are read; None for this process.
        progress: Told of the shards seen.

    Returns:
        The shards' summaries by part, for ``profile.merge`` and ``profile.pieces``.

    Raises:
        TrainError: A part or column does not exist, or a column is of a type that no trainer can read.
    """
    looks = [
        _Look(part, path, data.label if labelled else "", data.features, tuple(further))
        for part in parts
        for path in data.files(part)
    ]
    with (progress or SilentProgress()).stage("looking at the training set", len(looks), "shards") as stage:
        found = spread(_look, looks, client, lambda one: stage.advance(rows=sum(one.groups)))
    return {
        part: tuple(profile for look, profile in zip(looks, found, strict=True) if look.part == part)
        for part in parts
    }


@dataclass(frozen=True)
class _Look:
    part: str
    path: Path
    label: str
    features: tuple[str, ...]
    further: tuple[str, ...]


def _look(look: _Look) -> ShardProfile:
    return profile_shard(
        look.path, look.label, look.features, with_features=look.part == "train", further=look.further
    )
