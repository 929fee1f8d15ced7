"""What a caller of Feast's API asked for, as a plan: views, features, clock, on-demand features."""

from __future__ import annotations

from collections.abc import Sequence

from feast.feature_service import FeatureService
from feast.feature_view import FeatureView as FeastView
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView

from mlflow_core.errors import PlanError
from mlflow_core.plan.from_feast import on_demand_of, read_of, service_clock
from mlflow_core.plan.retrieval import OnDemandRead, RetrievalPlan
from mlflow_core.spec import ClockName

__all__ = ["plan_request"]


def plan_request(
    feature_views: Sequence[FeastView],
    feature_refs: Sequence[str],
    registry: BaseRegistry,
    project: str,
    *,
    repo_path: str,
    time_column: str,
    full_feature_names: bool,
    filter_by_created_timestamp: bool = False,
) -> tuple[RetrievalPlan, list[OnDemandFeatureView]]:
    """Plan a historical retrieval that came through Feast's API.

    Args:
        feature_views: The stored views asked for, with their projections.
        feature_refs: ``view:feature`` references, on-demand ones and implied inputs included.
        registry: Feast's registry.
        project: The project's name.
        repo_path: Folder of the feature repository.
        time_column: The entity rows' time column.
        full_feature_names: Call columns ``{view}__{feature}``.
        filter_by_created_timestamp: See only what was created by the entity row's time.

    Returns:
        The plan, and the native on-demand views that Feast computes itself afterwards.
    """
    wanted = _by_view(feature_refs)
    on_demand = OnDemandFeatureView.get_requested_odfvs(list(feature_refs), project, registry)
    clock = _clock_of_service(registry, project, feature_refs, on_demand)
    reads = tuple(
        read_of(
            view,
            wanted[view.projection.name_to_use()],
            clock,
            full_feature_names,
            repo_path=repo_path,
            created_is_known=filter_by_created_timestamp,
        )
        for view in feature_views
    )
    ours: list[OnDemandRead] = []
    native: list[OnDemandFeatureView] = []
    for feast_view in on_demand:
        declared = on_demand_of(feast_view)
        name = feast_view.projection.name_to_use()
        if declared is None:
            native.append(feast_view)
        else:
            ours.append(
                OnDemandRead(declared, tuple(wanted.get(name, ())), name if full_feature_names else None)
            )
    columns = tuple(read.output(feature) for read in reads for feature in read.features)
    return RetrievalPlan(reads, tuple(ours), columns, time_column), native


def _by_view(feature_refs: Sequence[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for ref in feature_refs:
        view, _, feature = ref.partition(":")
        wanted.setdefault(view.partition("@")[0], []).append(feature)
    return wanted


def _clock_of_service(
    registry: BaseRegistry,
    project: str,
    feature_refs: Sequence[str],
    on_demand: Sequence[OnDemandFeatureView],
) -> ClockName | None:
    """Find the clock of the feature service that was asked for; Feast hands over its references, not its name."""
    asked = frozenset(feature_refs)
    implied = {
        f"{projection.name_to_use()}:{feature.name}"
        for view in on_demand
        for projection in view.source_feature_view_projections.values()
        for feature in projection.features
    }
    clocks: dict[ClockName, str] = {}
    for service in registry.list_feature_services(project):
        refs = _refs_of(service)
        clock = service_clock(service)
        if clock and refs <= asked <= refs | implied:
            clocks.setdefault(clock, service.name)
    if len(clocks) > 1:
        named = ", ".join(f'"{name}" is {clock}' for clock, name in clocks.items())
        raise PlanError(
            f"feature services with the same features have different clocks ({named})",
            hint="Give them one clock, or ask through mlflow_core.load(...).dataset, which names it.",
        )
    return next(iter(clocks), None)


def _refs_of(service: FeatureService) -> frozenset[str]:
    return frozenset(
        f"{projection.name_to_use()}:{feature.name}"
        for projection in service.feature_view_projections
        for feature in projection.features
    )
