"""Feature services: the features that one model or consumer asks for, under one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_serializer, model_validator

from mlflow_core.spec.model import Named
from mlflow_core.spec.on_demand import OnDemand
from mlflow_core.spec.view import FeatureView, Selection

__all__ = ["ClockName", "FeatureService"]

ClockName = Literal["event", "known", "served"]


class FeatureService(Named):
    """A named list of features, in a fixed order.

    Args:
        name: The service's name.
        features: Feature views, selections of them (``view[["a", "b"]]``) and on-demand features.
        clock: Which events historical retrieval sees: ``"event"``, ``"known"`` or ``"served"``; by default
            ``served`` where every view has availability, else each source's own.

    Raises:
        SpecError: Two features of one name, or an on-demand feature whose inputs are not importable.
    """

    positional: ClassVar[tuple[str, ...]] = ("name", "features")
    features: tuple[FeatureView | Selection | OnDemand, ...]
    clock: ClockName | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            features: Sequence[FeatureView | Selection | OnDemand],
            *,
            clock: ClockName | None = None,
            description: str = "",
            owner: str = "",
            tags: Mapping[str, str] = ...,
        ) -> None: ...

    @field_serializer("features")
    def _features_by_name(
        self, features: tuple[FeatureView | Selection | OnDemand, ...]
    ) -> list[dict[str, Any]]:
        return [_by_name(one) for one in features]

    @model_validator(mode="after")
    def _distinct(self) -> FeatureService:
        if not self.features:
            raise ValueError('field "features" is empty; a service needs at least one feature')
        views = [one.view.name if isinstance(one, Selection) else one.name for one in self.features]
        for name in views:
            if views.count(name) > 1:
                raise ValueError(f'"{name}" is listed twice')
        seen: dict[str, str] = {}
        for selection in self.selections:
            for feature in selection.features:
                if feature in seen:
                    raise ValueError(
                        f'"{feature}" is a feature of both "{seen[feature]}" and "{selection.view.name}"; '
                        "name one of them otherwise"
                    )
                seen[feature] = selection.view.name
        if self.clock == "served":
            missing = [
                selection.view.name for selection in self.selections if selection.view.availability is None
            ]
            if missing:
                raise ValueError(
                    f'clock "served" needs availability, which {", ".join(missing)} does not declare'
                )
        return self

    @property
    def selections(self) -> tuple[Selection, ...]:
        """The stored features by view, in order."""
        return tuple(
            one if isinstance(one, Selection) else Selection(view=one, features=one.feature_names)
            for one in self.features
            if not isinstance(one, OnDemand)
        )

    @property
    def on_demand(self) -> tuple[OnDemand, ...]:
        """The on-demand features, in order."""
        return tuple(one for one in self.features if isinstance(one, OnDemand))


def _by_name(one: FeatureView | Selection | OnDemand) -> dict[str, Any]:
    if isinstance(one, FeatureView):
        return {"view": one.name}
    if isinstance(one, Selection):
        return {"view": one.view.name, "features": list(one.features)}
    return {"on_demand": one.name}
