"""A project as it was loaded: its declarations by kind and name, and the Feast objects that stand beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_core.config.secret import hidden_in
from mlflow_core.errors import UnknownNameError, nearest
from mlflow_core.spec import (
    Entity,
    FeatureService,
    FeatureView,
    Named,
    OnDemand,
    Pipeline,
    Source,
    TrainingPipeline,
)

__all__ = ["KINDS", "Project"]

KINDS = ("entities", "sources", "views", "on_demand", "services", "pipelines", "step_pipelines")
"""The kinds of declarations, in the order in which they build on each other."""


@dataclass(frozen=True, slots=True)
class Project:
    """What a repository declares; names are unique in each kind.

    Attributes:
        name: The project's name, which is Feast's too.
        root: The project's folder.
        repo: The feature repository's folder; relative paths of sources start there.
        entities: Entities by name, also those that only a view or a label names.
        sources: Sources by name, also those that only a view, spine or label names.
        views: Feature views by name.
        on_demand: On-demand features by name.
        services: Feature services by name.
        pipelines: Training pipelines by name.
        step_pipelines: Pipelines of steps alone, by name; none has the name of a training pipeline.
        native: Feast's own objects found in the repository, applied as they are.
    """

    name: str
    root: Path
    repo: Path
    entities: Mapping[str, Entity] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    views: Mapping[str, FeatureView] = field(default_factory=dict)
    on_demand: Mapping[str, OnDemand] = field(default_factory=dict)
    services: Mapping[str, FeatureService] = field(default_factory=dict)
    pipelines: Mapping[str, TrainingPipeline] = field(default_factory=dict)
    step_pipelines: Mapping[str, Pipeline] = field(default_factory=dict)
    native: tuple[Any, ...] = ()

    def declared(self, kind: str) -> Mapping[str, Named]:
        """Return the declarations of one of ``KINDS``, by name."""
        found: Mapping[str, Named] = getattr(self, kind)
        return found

    def find(self, kind: str, name: str) -> Any:
        """Return a declaration.

        Args:
            kind: One of ``KINDS``.
            name: Its name.

        Raises:
            UnknownNameError: There is none of this name; names the nearest.
        """
        known = self.declared(kind)
        if name not in known:
            what = _SINGULAR[kind]
            raise UnknownNameError(f'there is no {what} "{name}"', hint=nearest(name, known))
        return known[name]

    def secret_values(self) -> tuple[str, ...]:
        """The texts that must never be printed: what the references to secrets in its sources stand for."""
        declared = (one.model_dump() for one in self.sources.values())
        return tuple(dict.fromkeys(text for one in declared for text in hidden_in(one, self.repo)))


_SINGULAR = {
    "entities": "entity",
    "sources": "source",
    "views": "feature view",
    "on_demand": "on-demand features",
    "services": "feature service",
    "pipelines": "training pipeline",
    "step_pipelines": "pipeline of steps",
}
