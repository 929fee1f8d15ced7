"""The newest observations of a training set's spine, whether or not their labels are known: what a model would see now.

They are made as the rows of a training set are, by ``engine.dataset.spine``; labels and the split play no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.algebra.types import TIME
from mlflow_core.engine.dataset.spine import final_versions, making_rows, unlabelled
from mlflow_core.plan.dataset import DatasetPlan
from mlflow_core.sources import Between, SourceListing, open_source
from mlflow_core.sources.spans import joined_span, reported_span

__all__ = ["Newest", "newest_observations"]


@dataclass(frozen=True, slots=True)
class Newest:
    """Observations up to the newest one.

    Attributes:
        table: Query time and kept columns of a sample of them, in source order.
        rows: How many there were before the sample was taken.
        newest_us: The time of the source's newest event so far, microseconds since epoch, UTC; None where it has none.
    """

    table: pa.Table
    rows: int
    newest_us: int | None


def newest_observations(
    plan: DatasetPlan, base: str, over_us: int, *, now_us: int, most: int, seed: int
) -> Newest:
    """Make rows of the spine's newest events.

    Args:
        plan: The training set's.
        base: Folder that relative source paths start at.
        over_us: How far back from the source's newest event they reach, in microseconds; that far back is too far.
        now_us: Events later than this are none yet, as those of a clock that was wrong; microseconds since epoch, UTC.
        most: More rows than this are sampled down to as many.
        seed: Seed of the sample.

    Raises:
        SourceError: The source cannot be read, or an event has no query time.
    """
    source = plan.dataset.spine.source
    listing = open_source(source, base)
    events = final_versions(listing.read(plan.columns, _needed(listing, over_us, now_us)), source)
    times = events[source.event_time].cast(TIME).cast(pa.int64())
    newest = pc.max(times.filter(pc.less_equal(times, now_us))).as_py()
    if newest is None:
        events = events.slice(0, 0)
    else:
        events = events.filter(pc.and_(pc.greater(times, newest - over_us), pc.less_equal(times, now_us)))
    events = making_rows(plan, events)
    found = events.num_rows
    if found > most:
        random = np.random.default_rng(seed)
        events = events.take(pa.array(np.sort(random.choice(found, most, replace=False))))
    return Newest(unlabelled(plan, events)[0], found, newest)


def _needed(listing: SourceListing, over_us: int, now_us: int) -> Between | None:
    """What must be read; a version of an event with an identity may have moved from anywhere."""
    if listing.source.event_id is not None:
        return None
    span = reported_span(joined_span(part.span for part in listing.found if part.rows))
    if span is None:
        return None
    # Where something is later than now, nobody knows how early the newest event is that is not.
    return (span[1] - over_us, None) if span[1] <= now_us else (None, now_us)
