"""The logical plan of a retrieval: which views are read, under which clock, joined on what, in which order.

A plan is a value. It names no file and no cluster; ``mlflow_core.engine`` walks it in bulk and
``mlflow_core.online`` walks the same plan for a request, which is why both give the same columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlflow_core.errors import PlanError
from mlflow_core.plan.erasures import NOTHING_ERASED, Erasures
from mlflow_core.spec import ClockName, FeatureService, FeatureView, OnDemand, Selection

__all__ = ["OnDemandRead", "RetrievalPlan", "ViewRead", "clock_of", "plan_retrieval"]


@dataclass(frozen=True, slots=True)
class ViewRead:
    """One view joined to the entity rows.

    Attributes:
        view: The feature view.
        features: The features read, in the view's order.
        clock: Which events the join sees.
        keys: Pairs of the view's key column and the entity rows' column it is joined on.
        prefix: Output columns are called ``{prefix}__{feature}`` where it is given.
        hidden: Those of the features that only feed on-demand features and are not put out.
        erased: Of which keys events are not seen, and up to when; only those that concern the view's keys.
    """

    view: FeatureView
    features: tuple[str, ...]
    clock: ClockName
    keys: tuple[tuple[str, str], ...]
    prefix: str | None = None
    hidden: tuple[str, ...] = ()
    erased: Erasures = NOTHING_ERASED

    def without(self, erasures: Erasures) -> ViewRead:
        """Return the read that does not see what was erased.

        Args:
            erasures: All of the project's.
        """
        return replace(self, erased=erasures.within(self.view.keys))

    def output(self, feature: str) -> str:
        """Return the output column of a feature."""
        return feature if self.prefix is None else f"{self.prefix}__{feature}"

    @property
    def shown(self) -> tuple[str, ...]:
        """The features that are put out, in the view's order."""
        return tuple(name for name in self.features if name not in self.hidden)


@dataclass(frozen=True, slots=True)
class OnDemandRead:
    """On-demand features computed after the views are joined.

    Attributes:
        on_demand: The declaration.
        features: The features kept, or empty for all that the function returns.
        prefix: Output columns are called ``{prefix}__{feature}`` where it is given.
    """

    on_demand: OnDemand
    features: tuple[str, ...] = ()
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class RetrievalPlan:
    """What a retrieval does.

    Attributes:
        reads: The views, joined in this order; some only feed on-demand features.
        on_demand: On-demand features, computed in this order.
        columns: Output columns of the stored features, in order; those of on-demand features follow.
        time_column: The entity rows' time.
    """

    reads: tuple[ViewRead, ...]
    on_demand: tuple[OnDemandRead, ...]
    columns: tuple[str, ...]
    time_column: str = "event_timestamp"

    def without(self, erasures: Erasures) -> RetrievalPlan:
        """Return the plan that does not see what was erased.

        Args:
            erasures: All of the project's.
        """
        return replace(self, reads=tuple(read.without(erasures) for read in self.reads))

    def feeding(self, view: str, feature: str) -> int:
        """Return which of the reads gives an on-demand feature its input, as a place in ``reads``.

        Of several reads of one view it is the one joined on the view's own key names, else the first.

        Args:
            view: The view's name.
            feature: The feature's name.

        Raises:
            PlanError: No read has the feature.
        """
        places = [i for i, r in enumerate(self.reads) if r.view.name == view and feature in r.features]
        if not places:
            raise PlanError(
                f'the plan does not read "{feature}", which feeds an on-demand feature', object=view
            )
        own = [i for i in places if all(key == column for key, column in self.reads[i].keys)]
        return (own or places)[0]

    def describe(self) -> str:
        """Return the plan as text, one line a view."""
        lines = [
            f"{read.view.name}  clock={read.clock}  on {', '.join(column for _, column in read.keys) or 'nothing'}"
            f"  {len(read.features)} features of {read.view.source.name}"
            for read in self.reads
        ]
        lines += [
            f"{read.on_demand.name}  on demand, {read.on_demand.import_path}" for read in self.on_demand
        ]
        return "\n".join(lines)


def clock_of(service: FeatureService) -> ClockName:
    """Return the clock of a retrieval that names none.

    It is the service's own where declared; else ``served`` where every view has availability; else ``known``
    where any source tells when its events were known, which for the other sources is the same as ``event``.
    """
    if service.clock is not None:
        return service.clock
    views = [selection.view for selection in _needed(service)]
    if views and all(view.availability is not None for view in views):
        return "served"
    return "known" if any(view.source.clock == "known" for view in views) else "event"


def plan_retrieval(
    service: FeatureService,
    *,
    clock: ClockName | None = None,
    time_column: str = "event_timestamp",
    full_feature_names: bool = False,
) -> RetrievalPlan:
    """Plan the retrieval of a feature service.

    Args:
        service: The features asked for.
        clock: Which events it sees; by default ``clock_of(service)``.
        time_column: The entity rows' time column.
        full_feature_names: Call output columns ``{view}__{feature}``.

    Returns:
        The plan; views that only feed on-demand features are read but not put out.

    Raises:
        PlanError: The clock is ``served`` and a view declares no availability.
    """
    chosen = clock or clock_of(service)
    needed = _needed(service)
    put_out = {(one.view.name, name) for one in service.selections for name in one.features}
    for selection in needed:
        if chosen == "served" and selection.view.availability is None:
            raise PlanError(
                "has no availability, so nobody can say what was served when",
                object=selection.view.title,
                place=selection.view.place,
                expected='availability=Every("1h", delay="10m") or the like',
                hint='Or ask for clock="known".',
            )
    reads = tuple(
        ViewRead(
            view=selection.view,
            features=selection.features,
            clock=chosen,
            keys=tuple((key, key) for key in selection.view.keys),
            prefix=selection.view.name if full_feature_names else None,
            hidden=tuple(name for name in selection.features if (selection.view.name, name) not in put_out),
        )
        for selection in needed
    )
    by_view = {read.view.name: read for read in reads}
    columns = tuple(
        by_view[selection.view.name].output(feature)
        for selection in service.selections
        for feature in selection.features
    )
    on_demand = tuple(
        OnDemandRead(one, prefix=one.name if full_feature_names else None) for one in service.on_demand
    )
    return RetrievalPlan(reads=reads, on_demand=on_demand, columns=columns, time_column=time_column)


def _needed(service: FeatureService) -> tuple[Selection, ...]:
    """Merge what the service puts out with what its on-demand features read, one selection a view."""
    wanted: dict[str, tuple[FeatureView, set[str]]] = {}
    for selection in (*service.selections, *_inputs(service.on_demand)):
        wanted.setdefault(selection.view.name, (selection.view, set()))[1].update(selection.features)
    return tuple(
        Selection(view=view, features=tuple(name for name in view.feature_names if name in features))
        for view, features in wanted.values()
    )


def _inputs(on_demand: Iterable[OnDemand]) -> Iterable[Selection]:
    for one in on_demand:
        for given in one.inputs:
            yield (
                given if isinstance(given, Selection) else Selection(view=given, features=given.feature_names)
            )
