"""Features that are computed when they are asked for: a plain function of arrays, the same offline and online."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_serializer, field_validator, model_validator

from mlflow_core.spec.dtype import DType, dtype_of
from mlflow_core.spec.model import NAME, Named
from mlflow_core.spec.view import FeatureView, Selection

__all__ = ["Arrays", "OnDemand", "on_demand"]

Arrays = Mapping[str, np.ndarray[Any, Any]]


class OnDemand(Named):
    """Features computed from other features and from the request, by a function of arrays.

    The function gets a mapping of names to numpy arrays of one length: numbers as float64 with NaN for nulls
    (int64 and bool where the column can have none), times as ``datetime64[us]`` with NaT, everything else as
    objects with None. It returns a mapping of feature names to arrays of the same length.

    Args:
        name: The name, by default the function's.
        function: A function at the top level of an importable module.
        inputs: Feature views (or selections of one) whose features it reads.
        request: Fields of the request that it reads, with their types.
        outputs: Types of the features it returns; found by calling it on empty arrays where left out.
    """

    function: Callable[[Arrays], Arrays] = Field(exclude=True)
    import_path: str = ""
    inputs: tuple[FeatureView | Selection, ...] = ()
    request: dict[str, DType] = {}
    outputs: dict[str, DType] = {}

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            function: Callable[[Any], Any],
            import_path: str = ...,
            inputs: Sequence[FeatureView | Selection] = (),
            request: Mapping[str, object] = ...,
            outputs: Mapping[str, object] = ...,
            description: str = "",
            owner: str = "",
            tags: Mapping[str, str] = ...,
        ) -> None: ...

    @field_validator("request", "outputs", mode="before")
    @classmethod
    def _types(cls, value: Any) -> Any:
        return {name: dtype_of(kind) for name, kind in value.items()} if isinstance(value, dict) else value

    @field_serializer("inputs")
    def _inputs_by_name(self, inputs: tuple[FeatureView | Selection, ...]) -> list[dict[str, Any]]:
        return [
            {"view": one.name}
            if isinstance(one, FeatureView)
            else {"view": one.view.name, "features": one.features}
            for one in inputs
        ]

    @model_validator(mode="before")
    @classmethod
    def _path_of_function(cls, data: Any) -> Any:
        if isinstance(data, dict) and callable(data.get("function")):
            function = data["function"]
            return {"import_path": f"{function.__module__}:{function.__qualname__}", **data}
        return data

    @model_validator(mode="after")
    def _importable(self) -> OnDemand:
        if "<" in self.import_path:
            raise ValueError(
                f'field "function": {self.import_path} cannot be imported by another process; '
                "define it with def at the top level of a module"
            )
        parameters = inspect.signature(self.function).parameters
        if len(parameters) != 1:
            raise ValueError(
                f'field "function" takes {len(parameters)} arguments; it must take one, the arrays by name'
            )
        if not self.inputs and not self.request:
            raise ValueError('needs "inputs", "request" or both')
        for name in (*self.request, *self.outputs):
            if not NAME.match(name):
                raise ValueError(f'"{name}" is not a name of letters, digits and underscores')
        return self

    @property
    def views(self) -> tuple[FeatureView, ...]:
        """The feature views it reads."""
        return tuple(one if isinstance(one, FeatureView) else one.view for one in self.inputs)

    def __call__(self, arrays: Arrays) -> Arrays:
        """Call the function."""
        return self.function(arrays)


def on_demand(
    *,
    inputs: Sequence[FeatureView | Selection] = (),
    request: Mapping[str, object] | None = None,
    outputs: Mapping[str, object] | None = None,
    name: str | None = None,
    description: str = "",
    owner: str = "",
    tags: Mapping[str, str] | None = None,
) -> Callable[[Callable[[Any], Any]], OnDemand]:
    """Declare the decorated function as on-demand features; see ``OnDemand`` for the arguments.

    Raises:
        SpecError: The function cannot be imported by another process, or takes more than one argument.
    """

    def declare(function: Callable[[Any], Any]) -> OnDemand:
        return OnDemand(
            name or function.__name__,
            function=function,
            inputs=tuple(inputs),
            request=dict(request or {}),
            outputs=dict(outputs or {}),
            description=description or inspect.getdoc(function) or "",
            owner=owner,
            tags=dict(tags or {}),
        )

    return declare
