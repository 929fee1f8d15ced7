"""Whom a change of declarations touches: registered models in use, and pipelines; and which models forbid it.

What a model is made of stands in its signature: its service, and the fingerprint of each part. A model is in use where
an alias points at it or a deployment of it is live. Servers refuse a model one of whose parts is computed otherwise than
in its training, so such a change destroys what it answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mlflow_core.errors import PlanError
from mlflow_core.metadata import MetadataStore, ModelVersion
from mlflow_core.plan.impact import ColumnChange, Destruction
from mlflow_core.plan.lineage import Node

__all__ = [
    "Impact",
    "Stands",
    "UsedModel",
    "computed_otherwise",
    "impact_of",
    "refuse_destruction",
    "used_models",
]

PROTECTED_ALIAS = "champion"
"""What this alias points at, answers; so does whatever is deployed."""

_PIPELINES = ("pipelines", "step_pipelines")
_PARTS = {"view": "views", "on_demand": "on_demand", "service": "services"}


@dataclass(frozen=True, slots=True)
class UsedModel:
    """A model version that somebody may be using.

    Attributes:
        title: ``name:version``.
        aliases: Those that point at it.
        targets: Where a deployment of it is live.
        parts: The declarations that it reads.
        trained: The fingerprints that its views and on-demand features had in its training.
    """

    title: str
    aliases: tuple[str, ...]
    targets: tuple[str, ...]
    parts: frozenset[Node]
    trained: Mapping[Node, str] = field(default_factory=dict)

    @property
    def answers(self) -> bool:
        """Whether requests are answered with it: it is the champion, or deployed."""
        return PROTECTED_ALIAS in self.aliases or bool(self.targets)

    def describe(self) -> str:
        """Return it as one line."""
        where = [*(f"@{alias}" for alias in self.aliases), *(f"deployed at {one}" for one in self.targets)]
        return f"{self.title} ({', '.join(where)})"


@dataclass(frozen=True, slots=True)
class Stands:
    """A model that stands in the way of a destruction.

    Attributes:
        model: The model.
        destruction: What it would lose.
    """

    model: UsedModel
    destruction: Destruction


@dataclass(frozen=True, slots=True)
class Impact:
    """Whom a change touches.

    Attributes:
        columns: Columns that come, go or get another type.
        pipelines: Pipelines whose next run gives something else, by name.
        models: Models in use that were trained on what changes.
        destroyed: What readers of what was applied can no longer have.
        in_the_way: Models that answer with what is destroyed.
    """

    columns: tuple[ColumnChange, ...] = ()
    pipelines: tuple[str, ...] = ()
    models: tuple[UsedModel, ...] = ()
    destroyed: tuple[Destruction, ...] = ()
    in_the_way: tuple[Stands, ...] = ()


def used_models(metadata: MetadataStore) -> tuple[UsedModel, ...]:
    """Return the model versions that an alias points at or that are deployed, by name and version.

    Args:
        metadata: The project's models and deployments.

    Raises:
        MetadataError: The database cannot be read.
    """
    deployed: dict[tuple[str, int], list[str]] = {}
    for one in metadata.list_deployments(live=True):
        deployed.setdefault((one.model, one.version), []).append(one.target)
    versions = [
        version for name in metadata.list_models() for version in reversed(metadata.list_versions(name))
    ]
    return tuple(
        UsedModel(one.title, one.aliases, tuple(sorted(set(targets))), _parts(one), _trained(one))
        for one in versions
        if (targets := deployed.get((one.model, one.version), [])) or one.aliases
    )


def computed_otherwise(
    models: Iterable[UsedModel], applied: Mapping[Node, str], declared: Mapping[Node, str]
) -> tuple[Destruction, ...]:
    """Return the declarations whose values change under a model that answers with them, so that it answers no more.

    Args:
        models: The models in use.
        applied: The fingerprints in force.
        declared: Those that apply would put in force; what is removed has none.
    """
    nodes = {
        node
        for model in models
        if model.answers
        for node, trained in model.trained.items()
        # One that did not answer before does not lose it now.
        if applied.get(node) == trained and declared.get(node, trained) != trained
    }
    ordered = sorted(nodes, key=lambda node: (node.kind, node.name))
    return tuple(Destruction(node, "is computed otherwise") for node in ordered)


def impact_of(
    reached: Iterable[Node],
    columns: tuple[ColumnChange, ...],
    destroyed: tuple[Destruction, ...],
    models: Iterable[UsedModel],
) -> Impact:
    """Say whom a change touches.

    Args:
        reached: Declarations whose values change; from ``plan.impact.reached``.
        columns: How columns differ.
        destroyed: What is destroyed.
        models: The models in use.
    """
    nodes = frozenset(reached)
    touched = tuple(model for model in models if model.parts & nodes)
    return Impact(
        columns,
        tuple(sorted(node.name for node in nodes if node.kind in _PIPELINES)),
        touched,
        destroyed,
        tuple(
            Stands(model, one)
            for one in destroyed
            for model in touched
            # Other keys of an entity are told of the views by it as well: their columns change.
            if model.answers and one.node in model.parts
        ),
    )


def refuse_destruction(impact: Impact) -> None:
    """Refuse a change that takes away what a model answers with.

    Raises:
        PlanError: It would; names every model with what it would lose.
    """
    if not impact.in_the_way:
        return
    told = "; ".join(
        f"{one.destruction.describe()}, which {one.model.describe()} reads" for one in impact.in_the_way
    )
    raise PlanError(
        f"refused: {told}",
        hint="Declare what is new under another name and promote a model that reads that first, "
        "or add --force, which is recorded.",
    )


def _parts(version: ModelVersion) -> frozenset[Node]:
    service = version.signature.get("service")
    return frozenset({*_fingerprints(version)} | ({Node("services", service)} if service else set()))


def _trained(version: ModelVersion) -> dict[Node, str]:
    """Of a service further features may come: they do not matter to the model."""
    return {node: digest for node, digest in _fingerprints(version).items() if node.kind != "services"}


def _fingerprints(version: ModelVersion) -> dict[Node, str]:
    named = [
        (key.partition(" "), digest) for key, digest in version.signature.get("fingerprints", {}).items()
    ]
    return {Node(_PARTS[kind], name): digest for (kind, _, name), digest in named if kind in _PARTS}
