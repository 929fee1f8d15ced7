"""On-demand features: a user's function of arrays, called with Arrow columns and answered in Arrow columns.

The same conversion serves training sets and requests, which is what makes the function mean the same in both.
Numbers arrive as float64 with NaN for nulls. Counts, which are never null, arrive as int64, and so do whole or
boolean request fields as int64 or bool where none is missing. Times arrive as ``datetime64[us]`` with NaT,
everything else as objects with None.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeAlias, cast

import numpy as np
import pyarrow as pa

from mlflow_core.algebra.aggregates import empty_value
from mlflow_core.algebra.columns import settled
from mlflow_core.algebra.types import TIME, arrow_type
from mlflow_core.errors import EngineError, PlanError, nearest
from mlflow_core.spec import OnDemand, Selection

__all__ = ["evaluate_on_demand", "infer_outputs", "input_names", "load_function", "load_on_demand"]

Column: TypeAlias = Any  # an Arrow array or chunked array, shape (n,)


def input_names(on_demand: OnDemand) -> dict[tuple[str, str], str]:
    """Return under which name the function finds each stored feature.

    Args:
        on_demand: The declaration.

    Returns:
        (view, feature) -> the feature's plain name, or ``view__feature`` where two of its views share the name.
    """
    features = [
        (view.name, feature)
        for one in on_demand.inputs
        for view, names in [
            (one.view, one.features) if isinstance(one, Selection) else (one, one.feature_names)
        ]
        for feature in names
    ]
    plain = [feature for _, feature in dict.fromkeys(features)]
    return {
        (view, feature): feature if plain.count(feature) == 1 else f"{view}__{feature}"
        for view, feature in features
    }


def evaluate_on_demand(on_demand: OnDemand, inputs: Mapping[str, Column]) -> dict[str, pa.Array]:
    """Call an on-demand function.

    Args:
        on_demand: The declaration with its function.
        inputs: Stored features under the names of ``input_names`` and request fields under theirs, (n,) each.

    Returns:
        The features, (n,) each, in declared types or those inferred by ``infer_outputs``.

    Raises:
        EngineError: An input is missing, the function fails, or what it returns is not arrays of the same
            length that fit their types.
    """
    kinds = {name: column.type for name, column in inputs.items()}
    types = infer_outputs(on_demand, kinds)
    n = len(next(iter(inputs.values()))) if inputs else 0
    results = _called(on_demand, _arrays(on_demand, inputs))
    missing = sorted(set(types) - set(results))
    if missing:
        raise _wrong(on_demand, f'returns no "{missing[0]}", which it declares or returns for other rows')
    return {name: _column(on_demand, name, results[name], kind, n) for name, kind in types.items()}


def infer_outputs(on_demand: OnDemand, input_types: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """Return the types of the features that an on-demand function returns, by calling it on empty arrays.

    Args:
        on_demand: The declaration with its function.
        input_types: Types of its stored inputs, by name; request fields have their declared types.

    Raises:
        EngineError: As for ``evaluate_on_demand``.
    """
    if on_demand.outputs:
        return {name: arrow_type(dtype) for name, dtype in on_demand.outputs.items()}
    request = {name: arrow_type(dtype) for name, dtype in on_demand.request.items()}
    empty = {name: pa.array([], kind) for name, kind in (request | dict(input_types)).items()}
    results = _called(on_demand, _arrays(on_demand, empty))
    return {name: _type_of(on_demand, name, np.asarray(values)) for name, values in results.items()}


def load_on_demand(import_path: str) -> OnDemand:
    """Import an on-demand declaration.

    Args:
        import_path: ``module:name`` of the declaration or of its decorated function.

    Raises:
        PlanError: The module cannot be imported, or holds no on-demand features of this name.
    """
    module, name = _imported(import_path)
    found = getattr(module, name, None)
    if not isinstance(found, OnDemand):
        known = [key for key, value in vars(module).items() if isinstance(value, OnDemand)]
        raise PlanError(
            f'module {module.__name__} has no on-demand features "{name}"', hint=nearest(name, known)
        )
    return found


def load_function(import_path: str) -> Callable[[Any], Any]:
    """Import the function of on-demand features.

    Args:
        import_path: ``module:name`` of the function, or of the declaration that has taken its name.

    Raises:
        PlanError: The module cannot be imported, or holds no function of this name.
    """
    module, name = _imported(import_path)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, OnDemand):
        found = found.function
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise PlanError(f'module {module.__name__} has no function "{name}"', hint=nearest(name, known))
    return cast(Callable[[Any], Any], found)


def _imported(import_path: str) -> tuple[ModuleType, str]:
    module_name, _, name = import_path.partition(":")
    try:
        return importlib.import_module(module_name), name
    except ImportError as error:
        raise PlanError(
            f"cannot import {module_name}: {error}",
            object=f'on-demand features "{import_path}"',
            hint="The project's folder must be on the import path of every process that computes them.",
        ) from error


def _arrays(on_demand: OnDemand, inputs: Mapping[str, Column]) -> dict[str, np.ndarray[Any, Any]]:
    names = input_names(on_demand)
    windows = {
        (view.name, window.name): window.function for view in on_demand.views for window in view.windows
    }
    counts = {
        name for feature, name in names.items() if feature in windows and empty_value(windows[feature]) == 0
    }
    wanted = [*names.values(), *on_demand.request]
    for name in wanted:
        if name not in inputs:
            raise _wrong(on_demand, f'needs "{name}", which was not given', nearest(name, inputs))
    return {
        name: _numpy(inputs[name], whole=name in counts or name in on_demand.request)
        for name in dict.fromkeys(wanted)
    }


def _numpy(column: Column, *, whole: bool) -> np.ndarray[Any, Any]:
    column = settled(column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column]))
    kind = column.type
    if pa.types.is_timestamp(kind):
        moments = np.array(column.cast(pa.int64()).fill_null(0), np.int64).astype("datetime64[us]")
        moments[np.asarray(column.is_null())] = np.datetime64("NaT")
        return moments
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        if whole and column.null_count == 0:
            return np.array(column, np.bool_ if pa.types.is_boolean(kind) else np.int64)
        column = column.cast(pa.int8()) if pa.types.is_boolean(kind) else column
        return np.array(column.cast(pa.float64(), safe=False).fill_null(np.nan), np.float64)
    if pa.types.is_floating(kind) or pa.types.is_null(kind):
        return np.array(column.cast(pa.float64()).fill_null(np.nan), np.float64)
    objects = np.empty(len(column), dtype=object)
    objects[:] = column.to_pylist()
    return objects


def _called(on_demand: OnDemand, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Mapping[str, Any]:
    try:
        # 0/0 and missing values give NaN, which is a null: no reason to warn.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            results = on_demand(arrays)
    except Exception as error:
        raise _wrong(on_demand, f"fails with {type(error).__name__}: {error}") from error
    if not isinstance(results, Mapping):
        raise _wrong(
            on_demand, f"returns {type(results).__name__}", "It must return a mapping of names to arrays."
        )
    return results


def _type_of(on_demand: OnDemand, name: str, values: np.ndarray[Any, Any]) -> pa.DataType:
    kinds = {
        "b": pa.bool_(),
        "i": pa.int64(),
        "u": pa.int64(),
        "f": pa.float64(),
        "M": TIME,
        "O": pa.string(),
        "U": pa.string(),
    }
    if values.dtype.kind not in kinds:
        raise _wrong(on_demand, f'returns "{name}" of type {values.dtype}', 'Declare its type in "outputs".')
    return kinds[values.dtype.kind]


def _column(on_demand: OnDemand, name: str, values: Any, kind: pa.DataType, n: int) -> pa.Array:
    array = np.asarray(values)
    if array.shape != (n,):
        raise _wrong(
            on_demand, f'returns "{name}" of shape {array.shape} for {n} rows', f"It must have shape ({n},)."
        )
    try:
        if array.dtype.kind == "M":
            missing = np.isnat(array)
            us = np.where(missing, np.datetime64(0, "us"), array.astype("datetime64[us]")).astype(np.int64)
            return pa.array(us, pa.int64(), mask=missing).cast(TIME).cast(kind)
        if array.dtype.kind == "f":
            return pa.array(array, mask=np.isnan(array)).cast(kind)
        if array.dtype.kind == "O":
            missing_or_nan = [
                None if isinstance(one, float) and one != one else one for one in array.tolist()
            ]
            return pa.array(missing_or_nan, kind)
        return pa.array(array).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise _wrong(
            on_demand, f'returns "{name}" that is not all {kind}: {error}', 'Declare its type in "outputs".'
        ) from None


def _wrong(on_demand: OnDemand, what: str, hint: str | None = None) -> EngineError:
    return EngineError(
        what, object=on_demand.title, place=on_demand.place or on_demand.import_path, hint=hint
    )
