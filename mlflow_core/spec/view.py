"""Feature views: the features of one entity from one source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import PrivateAttr, field_validator, model_validator

from mlflow_core.errors import UnknownNameError, nearest
from mlflow_core.spec.aggregate import Agg, WindowColumn
from mlflow_core.spec.availability import Every
from mlflow_core.spec.check import Check, InRange, NullRate
from mlflow_core.spec.duration import Duration, Length
from mlflow_core.spec.entity import Entity
from mlflow_core.spec.model import NAME, Named, Spec
from mlflow_core.spec.source import Source
from mlflow_core.spec.table import view_html, view_text

__all__ = ["FeatureView", "Selection"]


class _Columns(NamedTuple):
    """What a view's features multiply out to, and what that was made of."""

    features: tuple[str | Agg, ...]
    view: str
    windows: tuple[WindowColumn, ...]
    names: tuple[str, ...]


class FeatureView(Named):
    """Features of one entity: latest values, SQL expressions and window aggregates of one source.

    Args:
        name: The view's name.
        entity: What the features describe; None for features that are the same for everything.
        source: Where the events come from.
        features: Column names (the latest value) and ``Agg`` (window aggregates), in output order.
        columns: SQL expressions by name, computed on each event before anything else.
        ttl: How old a latest value may be, edge included; None is for ever. Windows are not touched by it.
        availability: When the values can be used; without it the view has no ``served`` clock.
        checks: What must hold of the values.

    Example:
        >>> from mlflow_core.spec import ParquetSource
        >>> flights = ParquetSource("flights", path="flights.parquet", event_time="departure")
        >>> view = FeatureView("delays", entity=Entity("carrier"), source=flights, columns={"late": "delay > 15"},
        ...                    features=["delay", Agg("late", "mean", over="14d", name="late_rate")])
        >>> view.feature_names
        ('delay', 'late_rate')
    """

    entity: Entity | None = None
    source: Source
    features: tuple[str | Agg, ...]
    columns: dict[str, str] = {}
    ttl: Duration | None = None
    availability: Every | None = None
    checks: tuple[Check, ...] = ()
    _columns: _Columns | None = PrivateAttr(default=None)

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            source: Source,
            features: str | Agg | Sequence[str | Agg],
            entity: Entity | None = None,
            columns: Mapping[str, str] = ...,
            ttl: Length | None = None,
            availability: Every | None = None,
            checks: Sequence[NullRate | InRange] = (),
            description: str = "",
            owner: str = "",
            tags: Mapping[str, str] = ...,
        ) -> None: ...

    @field_validator("features", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Agg) else value

    @model_validator(mode="after")
    def _consistent(self) -> FeatureView:
        if not self.features:
            raise ValueError('field "features" is empty; a view needs at least one feature')
        for name in self.columns:
            if not NAME.match(name):
                raise ValueError(
                    f'field "columns": "{name}" is not a name of letters, digits and underscores'
                )
        self._distinct_names()
        if self.ttl is not None and self.ttl <= 0:
            raise ValueError(f'field "ttl" is {self.ttl}; leave it out for values that never expire')
        for check in self.checks:
            if check.column not in self.feature_names:
                raise ValueError(
                    f'{type(check).__name__} checks "{check.column}", which is no feature of this view. '
                    f"{nearest(check.column, self.feature_names)}"
                )
        return self

    def _distinct_names(self) -> None:
        twice = [name for name, count in Counter(self.feature_names).items() if count > 1]
        if twice:
            raise ValueError(
                f'two features are called "{twice[0]}"; give one of them another name with Agg(..., name="...")'
            )
        taken = sorted(set(self.feature_names) & set(self.keys))
        if taken:
            raise ValueError(
                f'feature "{taken[0]}" is a key column of entity "{self.entity and self.entity.name}"'
            )

    @property
    def keys(self) -> tuple[str, ...]:
        """The key columns, in the entity's order; empty without an entity."""
        return self.entity.keys if self.entity else ()

    @property
    def latest(self) -> tuple[str, ...]:
        """The features that are latest values, in order."""
        return tuple(feature for feature in self.features if isinstance(feature, str))

    @property
    def windows(self) -> tuple[WindowColumn, ...]:
        """The features that are window aggregates, multiplied out, in order."""
        return self._multiplied().windows

    @property
    def feature_names(self) -> tuple[str, ...]:
        """All features in output order."""
        return self._multiplied().names

    def _multiplied(self) -> _Columns:
        # Serving asks for these at every request. A copy with other features or another name makes its own.
        made = self._columns
        if made is None or made.features is not self.features or made.view != self.name:
            made = self._columns = _multiplied(self.features, self.name)
        return made

    def __getstate__(self) -> dict[Any, Any]:
        # One declaration is one pickle, whether or not it was asked for its columns before.
        state = super().__getstate__()
        return {**state, "__pydantic_private__": {**state["__pydantic_private__"], "_columns": None}}

    def __getitem__(self, features: Sequence[str]) -> Selection:
        """Select some features for a service, as ``view[["mean_24h", "max_24h"]]``.

        Raises:
            UnknownNameError: The view has no such feature.
        """
        names = (features,) if isinstance(features, str) else tuple(features)
        for name in names:
            if name not in self.feature_names:
                raise UnknownNameError(
                    f'has no feature "{name}"',
                    object=self.title,
                    place=self.place,
                    hint=nearest(name, self.feature_names),
                )
        return Selection(view=self, features=names)

    def __str__(self) -> str:
        return view_text(self)

    def _repr_html_(self) -> str:
        return view_html(self)


def _multiplied(features: tuple[str | Agg, ...], view: str) -> _Columns:
    columns = [(one,) if isinstance(one, str) else one.columns(view) for one in features]
    return _Columns(
        features,
        view,
        windows=tuple(one for some in columns for one in some if not isinstance(one, str)),
        names=tuple(one if isinstance(one, str) else one.name for some in columns for one in some),
    )


class Selection(Spec):
    """Some features of a view, in the order given; made by ``view[[...]]``."""

    view: FeatureView
    features: tuple[str, ...]

    @model_validator(mode="after")
    def _known(self) -> Selection:
        if not self.features:
            raise ValueError('field "features" is empty; a selection needs at least one feature')
        for name in self.features:
            if name not in self.view.feature_names:
                raise ValueError(
                    f'{self.view.title} has no feature "{name}". {nearest(name, self.view.feature_names)}'
                )
        twice = [name for name, count in Counter(self.features).items() if count > 1]
        if twice:
            raise ValueError(f'"{twice[0]}" is selected twice')
        return self
