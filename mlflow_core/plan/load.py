"""Load a repository: import its files, collect what they declare, and see that each name means one thing.

Importing is ``mlflow_core.plan.imports``; whether declarations fit together and fit the data is
``mlflow_core.plan.check``. Objects are found in the modules' globals, also in lists, tuples and dictionaries
there, and inside other objects: an entity that only a view names counts as declared.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from mlflow_core.errors import PlanError
from mlflow_core.plan.imports import import_repository
from mlflow_core.plan.problems import Problems
from mlflow_core.plan.project import Project
from mlflow_core.spec import (
    Dataset,
    DeltaSource,
    Entity,
    FeatureService,
    FeatureView,
    Fresh,
    IcebergSource,
    Label,
    Named,
    OnDemand,
    ParquetSource,
    Pipeline,
    Schedule,
    Selection,
    Spec,
    Spine,
    SqlSource,
    TrainingPipeline,
)

__all__ = ["load_project"]

_KIND_OF: tuple[tuple[type[Named], str], ...] = (
    (Entity, "entities"),
    (ParquetSource, "sources"),
    (SqlSource, "sources"),
    (DeltaSource, "sources"),
    (IcebergSource, "sources"),
    (FeatureView, "views"),
    (OnDemand, "on_demand"),
    (FeatureService, "services"),
    (TrainingPipeline, "pipelines"),
    (Pipeline, "step_pipelines"),
)
_NAMES: tuple[tuple[type[Spec], tuple[str, ...]], ...] = (
    (FeatureView, ("entity", "source")),
    (Selection, ("view",)),
    (TrainingPipeline, ("data", "schedule")),
    (Dataset, ("features", "spine", "label")),
    (Spine, ("source",)),
    (Label, ("source", "entity")),
    (Pipeline, ("schedule",)),
    (Schedule, ("when",)),
    (Fresh, ("of",)),
)
"""What declarations name others by."""
_SHARED = ("entities", "sources")  # often written out where they are used, as Entity("origin")


def load_project(
    root: Path, *, name: str, feature_repo: str = "feature_repo", pipelines: str = "pipelines"
) -> Project:
    """Load a project from its folder.

    Every ``*.py`` below the two folders is imported once, under its package name, with the root first on
    ``sys.path``; there it stays, so that on-demand functions can be found, until another project is loaded.

    Args:
        root: The project's folder.
        name: The project's name.
        feature_repo: Folder of the feature repository below the root.
        pipelines: Folder of the pipelines below the root; it need not exist.

    Returns:
        The project, its declarations by kind and name.

    Raises:
        PlanError: A folder is missing; a file has a syntax error, cannot be imported or imports in a circle; a
            name is declared twice. All that can be found together is told together.
        SpecError: A declaration is wrong by itself.

    Note:
        After an error ``sys.modules`` and ``sys.path`` are as they were.
    """
    with import_repository(root, feature_repo, pipelines) as modules:
        found = list(_declarations(modules))
        native = _native(modules)
        problems = Problems()
        kinds: dict[str, dict[str, Any]] = {kind: {} for _, kind in _KIND_OF}
        for kind, one in found:
            with problems.noted():
                _keep(kinds[kind], kind, one)
        for error in _shared_names(kinds, native):
            problems.add(error)
        problems.raise_all()
    return Project(
        name=name, root=root.absolute(), repo=(root / feature_repo).absolute(), native=native, **kinds
    )


def _declarations(modules: Iterable[ModuleType]) -> Iterator[tuple[str, Named]]:
    """Yield each declaration once, in order of appearance, what it is made of before it."""
    seen: set[int] = set()
    for module in modules:
        for name, value in list(vars(module).items()):
            if not name.startswith("__"):
                yield from _within(value, seen)


def _within(value: Any, seen: set[int]) -> Iterator[tuple[str, Named]]:
    if isinstance(value, Spec) and id(value) not in seen:
        seen.add(id(value))
        for part in _made_of(value):
            yield from _within(part, seen)
        kind = next((kind for cls, kind in _KIND_OF if isinstance(value, cls)), None)
        if kind is not None and isinstance(value, Named):
            yield kind, value
    elif isinstance(value, list | tuple | dict):
        for one in list(value.values()) if isinstance(value, dict) else value:
            yield from _within(one, seen)


def _made_of(one: Spec) -> tuple[Any, ...]:
    """What a declaration names; those that are not given are skipped by the caller."""
    if isinstance(one, OnDemand):
        return one.inputs
    if isinstance(one, FeatureService):
        return one.features
    return tuple(getattr(one, name) for kind, names in _NAMES if isinstance(one, kind) for name in names)


def _keep(known: dict[str, Any], kind: str, one: Named) -> None:
    other = known.setdefault(one.name, one)
    if other is one:
        return
    where = f"at {other.place}" if other.place else "elsewhere"
    if other != one:
        raise PlanError(
            f"is declared twice, and differently: {_difference(one, other)} {where}",
            object=one.title,
            place=one.place,
            hint="Give one of them another name, or import the one that is meant.",
        )
    if kind not in _SHARED and other.place != one.place:
        raise PlanError(
            f"is declared twice: here and {where}",
            object=one.title,
            place=one.place,
            hint="Import it instead.",
        )


def _difference(one: Named, other: Named) -> str:
    if type(one) is not type(other):
        return f"{type(one).__name__} here and {type(other).__name__}"
    for field in type(one).model_fields:
        here, there = getattr(one, field), getattr(other, field)
        if here != there:
            return f'field "{field}" is {_shown(here)} here and {_shown(there)}'
    return "its text here differs from that"


def _shown(value: Any) -> str:
    text = value.title if isinstance(value, Spec) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shared_names(kinds: dict[str, dict[str, Any]], native: tuple[Any, ...]) -> Iterator[PlanError]:
    for name, one in kinds["on_demand"].items():
        if name in kinds["views"]:
            yield PlanError(
                f"has the name of a feature view, declared at {kinds['views'][name].place}",
                object=one.title,
                place=one.place,
                hint="Feast keeps both under one name; give one of them another.",
            )
    for name, one in kinds["step_pipelines"].items():
        if name in kinds["pipelines"]:
            yield PlanError(
                f"has the name of a training pipeline, declared at {kinds['pipelines'][name].place}",
                object=one.title,
                place=one.place,
                hint="Both are run by name; give one of them another.",
            )
    for thing in native:
        for kind in _native_kinds(thing):
            ours = kinds[kind].get(thing.name)
            if ours is not None:
                yield PlanError(
                    f"has the name of a Feast {type(thing).__name__} in the same repository",
                    object=ours.title,
                    place=ours.place,
                    hint="Give one of them another name.",
                )


def _native(modules: Iterable[ModuleType]) -> tuple[Any, ...]:
    """Feast's own objects in the modules' globals, in order; where nothing imported Feast there are none."""
    if "feast" not in sys.modules:
        return ()
    import feast
    from feast.base_feature_view import BaseFeatureView
    from feast.data_source import DataSource

    kinds = (feast.Entity, DataSource, BaseFeatureView, feast.FeatureService)
    found = {
        id(value): value for module in modules for value in vars(module).values() if isinstance(value, kinds)
    }
    return tuple(found.values())


def _native_kinds(thing: Any) -> tuple[str, ...]:
    import feast
    from feast.base_feature_view import BaseFeatureView

    if isinstance(thing, feast.Entity):
        return ("entities",)
    if isinstance(thing, BaseFeatureView):
        return ("views", "on_demand")
    return ("services",) if isinstance(thing, feast.FeatureService) else ("sources",)
