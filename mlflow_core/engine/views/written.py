"""Writing views: what one run is asked for, what a piece of it has done, and how it ended.

The pieces of a run are partitions of keys. Each computes its rows and gives them to the run's sink in batches; what it
says of them adds up. Where the pieces are worked on is the route's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mlflow_core.engine.sink import ROWS_A_WRITE, Sink, Sunk
from mlflow_core.engine.views.changes import Since
from mlflow_core.engine.views.snapshot import SnapshotPart
from mlflow_core.errors import MlcoreError
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.telemetry import Stage

__all__ = ["Done", "ViewEnd", "ViewRun", "write_parts"]


@dataclass(frozen=True, slots=True)
class ViewRun:
    """One view's run.

    Attributes:
        read: From ``mlflow_core.engine.views.snapshot.snapshot_read``.
        boundary: The evaluation time, microseconds since epoch, UTC.
        sink: Where its rows go.
        since: What the sink's store holds already; None writes all entities.
    """

    read: ViewRead
    boundary: int
    sink: Sink
    since: Since | None


@dataclass(frozen=True, slots=True)
class Done:
    """What a piece of a run has done; two of them add up. Small, picklable.

    Attributes:
        entities: Keys at the boundary.
        computed: Those that were computed, because they can have changed.
        nulls: Nulls by feature among these.
        sunk: What became of their rows, as far as they were written.
        failure: Why not all of them were, or None.
    """

    entities: int = 0
    computed: int = 0
    nulls: Mapping[str, int] = field(default_factory=dict)
    sunk: Sunk = field(default_factory=Sunk)
    failure: MlcoreError | None = None

    def __add__(self, other: Done) -> Done:
        return Done(
            self.entities + other.entities,
            self.computed + other.computed,
            {
                name: self.nulls.get(name, 0) + other.nulls.get(name, 0)
                for name in {**self.nulls, **other.nulls}
            },
            self.sunk + other.sunk,
            self.failure or other.failure,
        )


@dataclass(frozen=True, slots=True)
class ViewEnd:
    """How a run ended.

    Attributes:
        place: Which of the runs it is.
        done: What its pieces have done.
        why_all: Why all entities were written, in words; None where only changes were.
        parts: The source's parts, from ``part_names``.
        events: Rows of the source that were looked at.
        dropped_keys: Rows of the source with a null in their key.
        dropped_times: Other rows of the source without an event time.
        failure: Why it failed, or None.
    """

    place: int
    done: Done = field(default_factory=Done)
    why_all: str | None = None
    parts: tuple[str, ...] = ()
    events: int = 0
    dropped_keys: int = 0
    dropped_times: int = 0
    failure: BaseException | None = None


def write_parts(parts: Iterable[SnapshotPart], run: ViewRun, stage: Stage | None = None) -> Done:
    """Give computed keys to a run's sink, batch by batch.

    Args:
        parts: The keys, computed as they are asked for.
        run: Whose they are.
        stage: Who is told of each batch.

    Returns:
        What was done; an error of ours on the way is told in it, with what had been written by then.
    """
    done = Done()
    try:
        for part in parts:
            table = part.table
            nulls = {name: table[name].null_count for name in run.read.view.feature_names}
            done += Done(part.entities, table.num_rows, nulls)
            for first in range(0, table.num_rows, ROWS_A_WRITE):
                sunk = run.sink.write(table.slice(first, ROWS_A_WRITE))
                done += Done(sunk=sunk)
                if stage is not None:
                    stage.advance(0, rows=sunk.rows, size=sunk.bytes)
    except MlcoreError as error:
        return done + Done(failure=error)
    finally:
        run.sink.close()
    return done
