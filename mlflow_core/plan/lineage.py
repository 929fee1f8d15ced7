"""What is made of what: from sources and entities through views and services to pipelines, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mlflow_core.algebra.parse import parse
from mlflow_core.errors import UnknownNameError, nearest
from mlflow_core.plan.project import KINDS, Project
from mlflow_core.spec import FeatureService, FeatureView, OnDemand, Selection, TrainingPipeline

__all__ = ["Lineage", "Node", "columns_of", "lineage"]


class Node(NamedTuple):
    """A declaration: its kind (one of ``KINDS``) and its name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({_SHOWN[self.kind]})"


_SHOWN = {
    "entities": "entity",
    "sources": "source",
    "views": "feature view",
    "on_demand": "on-demand features",
    "services": "feature service",
    "pipelines": "training pipeline",
    "step_pipelines": "pipeline of steps",
}


@dataclass(frozen=True, slots=True)
class Lineage:
    """The declarations of a project and what each is directly made of.

    Attributes:
        nodes: All declarations, in the order in which kinds build on each other.
        edges: (part, whole) pairs.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[Node, Node], ...]

    def upstream(self, name: str) -> tuple[Node, ...]:
        """Return all that a declaration is made of, in building order.

        Args:
            name: A declaration's name, with its kind in front (``views:weather``) where two kinds share it.

        Raises:
            UnknownNameError: There is no such declaration.
        """
        return self._reached(
            name, {whole: [p for p, w in self.edges if w == whole] for _, whole in self.edges}
        )

    def downstream(self, name: str) -> tuple[Node, ...]:
        """Return all that is made of a declaration, in building order; see ``upstream``."""
        return self._reached(name, {part: [w for p, w in self.edges if p == part] for part, _ in self.edges})

    def _reached(self, name: str, steps: Mapping[Node, Iterable[Node]]) -> tuple[Node, ...]:
        start = self._named(name)
        reached: set[Node] = set()
        front = list(start)
        while front:
            new = [other for node in front for other in steps.get(node, ()) if other not in reached]
            reached.update(new)
            front = new
        return tuple(node for node in self.nodes if node in reached and node not in start)

    def _named(self, name: str) -> tuple[Node, ...]:
        kind, _, plain = name.rpartition(":")
        found = tuple(node for node in self.nodes if node.name == plain and kind in ("", node.kind))
        if not found:
            raise UnknownNameError(
                f'nothing is declared as "{name}"', hint=nearest(plain, (node.name for node in self.nodes))
            )
        # An entity or source is often called like its view; the declaration that says more is meant.
        return found if kind else found[-1:]


def lineage(project: Project) -> Lineage:
    """Return what each declaration of a project is made of.

    Args:
        project: The loaded project.
    """
    nodes = tuple(Node(kind, name) for kind in KINDS for name in sorted(project.declared(kind)))
    return Lineage(nodes, tuple(dict.fromkeys(_edges(project))))


def columns_of(view: FeatureView) -> Mapping[str, frozenset[str]]:
    """Return for each feature of a view the names of the source columns that it is computed from.

    Args:
        view: The feature view.

    Returns:
        Feature -> source columns, as expressions spell them; keys and times are not listed.

    Raises:
        PlanError: An expression does not parse.
    """
    own = {name: _read(view, name, text) for name, text in view.columns.items()}

    def resolved(names: Iterable[str], inside: frozenset[str]) -> frozenset[str]:
        found: set[str] = set()
        for name in names:
            deeper = name in own and name not in inside
            found |= resolved(own[name], inside | {name}) if deeper else {name}
        return frozenset(found)

    used: dict[str, set[str]] = {name: {name} for name in view.latest}
    for window in view.windows:
        used[window.name] = set() if window.column == "*" else {window.column}
        used[window.name] |= _read(view, window.name, window.where) if window.where else set()
    return {name: resolved(used[name], frozenset()) for name in view.feature_names}


def _read(view: FeatureView, name: str, text: str) -> frozenset[str]:
    return frozenset(one.name for one in parse(text, title=f'{view.title}: "{name}"').columns)


def _edges(project: Project) -> Iterator[tuple[Node, Node]]:
    for view in project.views.values():
        here = Node("views", view.name)
        yield Node("sources", view.source.name), here
        if view.entity is not None:
            yield Node("entities", view.entity.name), here
    for one in project.on_demand.values():
        for used in one.views:
            yield Node("views", used.name), Node("on_demand", one.name)
    for service in project.services.values():
        for feature in service.features:
            yield _node(feature), Node("services", service.name)
    for pipeline in project.pipelines.values():
        for part in _parts(pipeline):
            yield part, Node("pipelines", pipeline.name)


def _node(feature: FeatureView | Selection | OnDemand) -> Node:
    if isinstance(feature, OnDemand):
        return Node("on_demand", feature.name)
    return Node("views", feature.view.name if isinstance(feature, Selection) else feature.name)


def _parts(pipeline: TrainingPipeline) -> Iterator[Node]:
    data = pipeline.data
    service: FeatureService = data.features
    yield Node("services", service.name)
    yield Node("sources", data.spine.source.name)
    if data.label.source is not None:
        yield Node("sources", data.label.source.name)
    if data.label.entity is not None:
        yield Node("entities", data.label.entity.name)
