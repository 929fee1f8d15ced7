"""Materialisation: views at their boundaries, computed where the route says and written from there.

Rows go to a sink (``mlflow_core.engine.sink``), batch by batch, where their partition is; what comes back is counts.
So memory is bounded whatever the source's size, and nothing here knows a store. Where a sink's store already holds an
earlier boundary, only rows that can have changed since are computed and written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlflow_core.engine.route import InProcess, Route
from mlflow_core.engine.sink import Sink, Sunk
from mlflow_core.engine.views.changes import Since
from mlflow_core.engine.views.snapshot import snapshot_read
from mlflow_core.engine.views.written import ViewEnd, ViewRun
from mlflow_core.plan.erasures import NOTHING_ERASED, Erasures
from mlflow_core.spec import FeatureView
from mlflow_core.telemetry import Progress, SilentProgress

__all__ = ["Ask", "MaterialisationReport", "Materialised", "materialise"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One view to be materialised.

    Attributes:
        view: The view. With availability its values are those served from the boundary on; else those of its
            source's own clock at the boundary.
        boundary: The evaluation time, microseconds since epoch, UTC; the caller has floored it.
        sink: Where its rows go.
        since: What the sink's store holds of it already; None writes all entities.
        erased: All of the project's erasures: events of erased entities are not seen.
    """

    view: FeatureView
    boundary: int
    sink: Sink
    since: Since | None = None
    erased: Erasures = NOTHING_ERASED


@dataclass(frozen=True, slots=True)
class MaterialisationReport:
    """What a materialisation found and did.

    Attributes:
        boundary: As of when, microseconds since epoch, UTC.
        since: From which boundary changes were looked for, or None where all entities were written.
        why_all: In words why they were; None where they were not.
        parts: The source's parts, for the next run's ``Since``.
        events: Rows of the source that were looked at.
        dropped_keys: Rows of the source left out for a null in their key.
        dropped_times: Other rows of the source left out because they have no event time.
        rows: Entities of which any event was visible by the boundary, windows now empty or not.
        skipped: Those of them whose row cannot have changed, so that it was neither computed nor written.
        nulls: Nulls by feature among the others.
        sunk: What became of the others.
    """

    boundary: int
    since: int | None
    why_all: str | None
    parts: tuple[str, ...]
    events: int
    dropped_keys: int
    dropped_times: int
    rows: int
    skipped: int
    nulls: Mapping[str, int]
    sunk: Sunk


@dataclass(frozen=True, slots=True)
class Materialised:
    """How one view's materialisation ended.

    Attributes:
        place: Which of the views asked for it is.
        report: What was found and done; of a failed one as far as it came.
        failure: Why it failed, or None.
    """

    place: int
    report: MaterialisationReport
    failure: BaseException | None


def materialise(
    asks: Sequence[Ask], *, base: str, route: Route | None = None, progress: Progress | None = None
) -> Iterator[Materialised]:
    """Compute views as they stand at their boundaries, and write them.

    Args:
        asks: The views; those of one source read it together.
        base: Folder of the feature repository; relative paths start there.
        route: Where to compute; in this process by default.
        progress: Who is told; nobody by default.

    Yields:
        One end a view, as soon as it has ended. One that fails does not stop the others; some of its rows may be
        written then. The TTL of latest values is not applied: it is applied when they are read.

    Example:
        >>> list(materialise([], base="."))
        []
    """
    runs = [
        ViewRun(snapshot_read(ask.view).without(ask.erased), ask.boundary, ask.sink, ask.since)
        for ask in asks
    ]
    for end in (route or InProcess()).written(runs, base=base, progress=progress or SilentProgress()):
        yield _materialised(end, asks[end.place])


def _materialised(end: ViewEnd, ask: Ask) -> Materialised:
    done = end.done
    report = MaterialisationReport(
        boundary=ask.boundary,
        since=None if end.why_all is not None or ask.since is None else ask.since.boundary,
        why_all=end.why_all,
        parts=end.parts,
        events=end.events,
        dropped_keys=end.dropped_keys,
        dropped_times=end.dropped_times,
        rows=done.entities,
        skipped=done.entities - done.computed,
        nulls={name: done.nulls.get(name, 0) for name in ask.view.feature_names},
        sunk=done.sunk,
    )
    return Materialised(end.place, report, end.failure)
