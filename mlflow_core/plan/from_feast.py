"""From Feast's registry back to declarations: what the stores and the engine read instead of the repository.

A view that ``mlcore apply`` wrote carries its declaration in a tag and comes back as it was written. A native
Feast view on Parquet files means latest values and is translated; one that only Feast's own engines can run is
refused here, with its reason, rather than answered wrongly later. Nothing here opens the registry or a file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast, get_args

from feast import FeatureService as FeastService
from feast import FeatureView as FeastView
from feast import OnDemandFeatureView as FeastOnDemand
from feast.data_format import ParquetFormat
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_NAME
from feast.infra.offline_stores.file_source import FileSource

from mlflow_core.algebra.on_demand import load_on_demand
from mlflow_core.errors import PlanError, UnknownNameError, nearest
from mlflow_core.plan.retrieval import ViewRead
from mlflow_core.plan.stored_form import CLOCK_TAG, CODE_TAG, MANIFEST_TAG, ON_DEMAND_TAG, SPEC_TAG
from mlflow_core.spec import (
    ClockName,
    Duration,
    Entity,
    FeatureView,
    OnDemand,
    ParquetSource,
    Source,
    source_from_json,
)
from mlflow_core.spec.code import code_digest

__all__ = [
    "CLOCK_TAG",
    "CODE_TAG",
    "MANIFEST_TAG",
    "ON_DEMAND_TAG",
    "SPEC_TAG",
    "on_demand_of",
    "read_of",
    "service_clock",
    "source_of",
    "view_of",
]


def view_of(feast_view: Any, *, repo_path: Path | str) -> FeatureView:
    """Return the declaration of a view in Feast's registry.

    Args:
        feast_view: A feast ``FeatureView``; one of ours, or a native one with a Parquet ``FileSource``.
        repo_path: The feature repository; relative paths of native views start there.

    Returns:
        Our declaration as it was applied, or the native view as latest values: its TTL (0 is none), its created
        column as ``created`` only, its field mapping as ``rename``.

    Raises:
        PlanError: A native view that is no latest value of Parquet files.
    """
    text = feast_view.tags.get(SPEC_TAG)
    return FeatureView.from_json(text) if text is not None else _translated(feast_view, Path(repo_path))


def source_of(feast_source: Any, *, repo_path: Path | str, columns: Collection[str]) -> Source:
    """Return the declaration of a source in Feast's registry.

    Args:
        feast_source: One of ours, or a native ``FileSource`` of Parquet files.
        repo_path: The feature repository; relative paths of native sources start there.
        columns: What will be read of a native source beside its times, under the names that its field mapping gives.

    Returns:
        Our declaration as it was applied, or the native source with its created column as ``created`` only and what
        its field mapping says of the columns read as ``rename``: Feast allows a mapping of columns that do not exist.

    Raises:
        PlanError: A native source of another kind.
    """
    text = feast_source.tags.get(SPEC_TAG)
    if text is not None:
        return source_from_json(text)
    if not isinstance(feast_source, FileSource) or not isinstance(
        feast_source.file_format, ParquetFormat | None
    ):
        raise PlanError(
            f"is a {type(feast_source).__name__}",
            object=f'Feast source "{feast_source.name}"',
            expected="a FileSource of Parquet files",
        )
    mapping = dict(feast_source.field_mapping or {})
    event_time = mapping.get(feast_source.timestamp_field, feast_source.timestamp_field)
    created_column = feast_source.created_timestamp_column
    created = mapping.get(created_column, created_column) or None
    read = {*columns, event_time, created}
    return ParquetSource(
        name=_as_name(feast_source.name),
        path=_located(feast_source.path, Path(repo_path)),
        event_time=event_time,
        created=created,
        rename={old: new for old, new in mapping.items() if new in read},
    )


def on_demand_of(feast_view: FeastOnDemand) -> OnDemand | None:
    """Return the declaration behind on-demand features in Feast's registry, imported by its path.

    Returns:
        The declaration, or None where the view is a native one.

    Raises:
        PlanError: The path cannot be imported here, or the code behind it is not what was applied.
    """
    path = feast_view.tags.get(ON_DEMAND_TAG)
    if path is None:
        return None
    found = load_on_demand(path)
    applied = feast_view.tags.get(CODE_TAG)
    if applied is not None and code_digest(found.function) != applied:
        raise PlanError(
            "is not the code that was applied",
            object=found.title,
            place=found.place,
            hint="Run: mlcore apply. Or run the version of the code that was applied.",
        )
    return found


def service_clock(service: FeastService) -> ClockName | None:
    """Return the clock that a service in Feast's registry was declared with, or None where it names none.

    Raises:
        PlanError: The tag names no clock.
    """
    clock = service.tags.get(CLOCK_TAG)
    if clock is not None and clock not in get_args(ClockName):
        raise PlanError(
            f'tag {CLOCK_TAG} is "{clock}"',
            object=f'FeatureService "{service.name}"',
            hint=nearest(clock, get_args(ClockName)),
        )
    return cast("ClockName | None", clock)


def read_of(
    feast_view: Any,
    features: Sequence[str],
    clock: ClockName | None,
    full_feature_names: bool,
    *,
    repo_path: Path | str,
    created_is_known: bool = False,
) -> ViewRead:
    """Plan the read of one view as Feast hands it to a store, with its projection's alias and join key map.

    Args:
        feast_view: A feast ``FeatureView`` with its projection, e.g. ``view.with_name("origin_weather")
            .with_join_key_map({"airport": "origin"})``.
        features: The features wanted, in any order.
        clock: Which events are seen; None is the source's own clock.
        full_feature_names: Call output columns ``{view or alias}__{feature}``.
        repo_path: The feature repository.
        created_is_known: Take the created column for the time at which an event became known, where the source
            declares none; what Feast calls ``filter_by_created_timestamp``. Sees events by the ``known`` clock.

    Returns:
        The read, its features in the view's order.

    Raises:
        UnknownNameError: The view has no such feature.
        PlanError: The clock is ``served`` and the view has no availability, or the view cannot be translated.
    """
    view = view_of(feast_view, repo_path=repo_path)
    # Feast lets the schema of a view name its keys as features: the entity rows have them already.
    for name in [name for name in features if name not in view.keys]:
        if name not in view.feature_names:
            raise UnknownNameError(
                f'has no feature "{name}"', object=view.title, hint=nearest(name, view.feature_names)
            )
    if created_is_known:
        view, clock = _known_when_created(view), "known"
    if clock == "served" and view.availability is None:
        raise PlanError(
            "has no availability, so nobody can say what was served when",
            object=view.title,
            place=view.place,
            expected='availability=Every("1h", delay="10m") or the like',
        )
    projection = feast_view.projection
    return ViewRead(
        view=view,
        features=tuple(name for name in view.feature_names if name in set(features)),
        clock=clock or view.source.clock,
        keys=tuple((key, projection.join_key_map.get(key, key)) for key in view.keys),
        prefix=projection.name_to_use() if full_feature_names else None,
    )


def _known_when_created(view: FeatureView) -> FeatureView:
    source = view.source
    if source.known_at is not None or source.created is None:
        return view
    return view.model_copy(update={"source": source.model_copy(update={"known_at": source.created})})


def _translated(feast_view: Any, repo_path: Path) -> FeatureView:
    source = feast_view.batch_source
    _refuse_what_only_feast_runs(feast_view, source)
    keys = tuple(field.name for field in feast_view.entity_columns if field.name != DUMMY_ENTITY_ID)
    entities = [name for name in feast_view.entities if name != DUMMY_ENTITY_NAME]
    features = tuple(field.name for field in feast_view.features if field.name not in keys)
    name = str(feast_view.name)
    view = FeatureView(
        name=_as_name(name),
        entity=Entity(name=_as_name("_".join(entities)), keys=keys) if keys else None,
        source=source_of(source, repo_path=repo_path, columns=(*keys, *features)),
        features=features,
        ttl=_ttl(feast_view.ttl),
        owner=feast_view.owner,
        description=feast_view.description,
    )
    # Feast allows names that we do not; the view is stored and joined under the one it has there.
    return view if view.name == name else view.model_copy(update={"name": name})


def _refuse_what_only_feast_runs(feast_view: Any, source: Any) -> None:
    title = f'Feast {type(feast_view).__name__} "{feast_view.name}"'
    if not isinstance(feast_view, FeastView):
        raise PlanError(
            "is no feature view that can be computed here", object=title, expected="a FeatureView"
        )
    if getattr(feast_view, "feature_transformation", None) is not None or feast_view.source_views:
        raise PlanError(
            "has a transformation, which only Feast's own engines run",
            object=title,
            hint="Declare it as an mlflow_core FeatureView with columns or Agg.",
        )
    if source is None:
        raise PlanError("has no batch source", object=title, expected="a FileSource of Parquet files")
    if not source.timestamp_field:
        raise PlanError(
            "has a source without timestamp_field", object=title, hint="Name the event time column."
        )
    if not feast_view.features:
        raise PlanError("has no features", object=title, hint="Run apply first, or declare its schema.")


def _located(path: str, repo_path: Path) -> str:
    return path if "://" in path or Path(path).is_absolute() else str(repo_path / path)


def _as_name(text: str) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return cleaned if cleaned[:1].isalpha() else f"native_{cleaned}"


def _ttl(ttl: timedelta | None) -> Duration | None:
    return Duration(ttl) if ttl else None
