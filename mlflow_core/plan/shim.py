"""On-demand features as Feast sees them: a fixed piece of text that names a function, never the function itself.

Feast keeps the source text of an on-demand transformation in its registry and runs it in every reader, so
whoever can write the registry runs code everywhere. What we put there is the same few lines each time, with only
the import path filled in; the function comes from the project's own package. Stores of ours do not use this (they
evaluate in Arrow); it is for Feast's own retrieval and servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
from feast.field import Field
from feast.protos.feast.core.Transformation_pb2 import UserDefinedFunctionV2
from feast.transformation.pandas_transformation import PandasTransformation
from feast.types import from_value_type

from mlflow_core.algebra.on_demand import evaluate_on_demand, input_names, load_on_demand
from mlflow_core.algebra.types import TIME, arrow_type
from mlflow_core.errors import PlanError
from mlflow_core.spec import OnDemand

__all__ = ["Shim", "ShimTransformation", "evaluate_frame", "shim_text"]

_TEXT = """def on_demand_features(inputs):
    from mlflow_core.plan.shim import evaluate_frame

    return evaluate_frame("{path}", inputs)
"""


def shim_text(path: str) -> str:
    """Return the text that Feast stores for the on-demand features at an import path, ``module:name``."""
    return _TEXT.format(path=path)


def evaluate_frame(path: str, inputs: pd.DataFrame) -> pd.DataFrame:
    """Evaluate on-demand features on a frame, as Feast's pandas mode calls it.

    Args:
        path: Import path of the declaration, ``module:name``.
        inputs: One column for each input feature and request field, under its own name or, for features, under
            ``{view}__{feature}``; other columns are left alone.

    Returns:
        One column for each feature, of the same length and index; whole numbers with nulls are Arrow-typed, so
        that they stay whole.

    Raises:
        PlanError: The path cannot be imported, or an input is missing.
    """
    on_demand = load_on_demand(path)
    outputs = evaluate_on_demand(on_demand, _inputs(on_demand, inputs))
    return pd.DataFrame({name: _column(values) for name, values in outputs.items()}, index=inputs.index)


class Shim:
    """The callable that Feast pickles: it holds an import path and nothing else.

    Args:
        path: Import path of the declaration, ``module:name``.
    """

    __name__ = "on_demand_features"

    def __init__(self, path: str) -> None:
        self.path = path
        # typing.get_type_hints, which Feast calls, wants annotations on whatever is not a plain function.
        self.__annotations__: dict[str, Any] = {}

    def __call__(self, inputs: pd.DataFrame) -> pd.DataFrame:
        """Evaluate on a frame; see ``evaluate_frame``."""
        return evaluate_frame(self.path, inputs)

    def __reduce__(self) -> tuple[type[Shim], tuple[str]]:
        return (Shim, (self.path,))


class ShimTransformation(PandasTransformation):
    """Feast's pandas transformation around a shim; its output types are declared, not sampled.

    Args:
        path: Import path of the declaration, ``module:name``.
        fields: Feast fields of the features.
    """

    def __new__(cls, *args: Any) -> ShimTransformation:  # noqa: ARG004 (what __init__ takes)
        """Make one; Feast's own ``__new__`` chooses a class by mode."""
        made: ShimTransformation = object.__new__(cls)
        return made

    def __init__(self, path: str, fields: list[Field]) -> None:
        super().__init__(udf=Shim(path), udf_string=shim_text(path), name=Shim.__name__)
        self.path = path
        self.fields = fields

    def infer_features(self, *args: Any, **kwargs: Any) -> list[Field]:  # noqa: ARG002 (Feast's signature)
        """Return the declared fields; Feast would call the function with made-up values."""
        return [Field(name=one.name, dtype=from_value_type(one.dtype.to_value_type())) for one in self.fields]

    def to_proto(self) -> UserDefinedFunctionV2:
        """Return what Feast stores: the text, and no pickled body that a reader could fall back to."""
        return UserDefinedFunctionV2(name=Shim.__name__, body=b"", body_text=self.udf_string, mode="pandas")

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> ShimTransformation:
        return ShimTransformation(self.path, list(self.fields))


def _inputs(on_demand: OnDemand, frame: pd.DataFrame) -> Mapping[str, pa.Array]:
    arrays: dict[str, pa.Array] = {}
    for (view, feature), name in input_names(on_demand).items():
        column = next((one for one in (f"{view}__{feature}", feature) if one in frame), None)
        if column is None:
            raise _missing(on_demand, feature)
        arrays[name] = _array(frame[column])
    for name, dtype in on_demand.request.items():
        if name not in frame:
            raise _missing(on_demand, name)
        arrays[name] = _array(frame[name], arrow_type(dtype))
    return arrays


def _missing(on_demand: OnDemand, name: str) -> PlanError:
    return PlanError(f'input "{name}" was not given', object=on_demand.title, place=on_demand.place)


def _array(column: pd.Series[Any], kind: pa.DataType | None = None) -> pa.Array:
    array = pa.array(column, from_pandas=True)
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if kind is None and pa.types.is_timestamp(array.type):
        kind = TIME
    if kind is None or array.type == kind:
        return array
    return array.cast(pa.timestamp("us")).cast(TIME) if kind == TIME else array.cast(kind)


def _column(values: pa.Array) -> pd.Series[Any]:
    whole = pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)
    column: pd.Series[Any] = values.to_pandas(
        types_mapper=pd.ArrowDtype if whole and values.null_count else None
    )
    # Feast tells the type of a column of objects by its first value; a column of nulls has none.
    return column.astype("string") if values.type == pa.string() and column.isna().all() else column
