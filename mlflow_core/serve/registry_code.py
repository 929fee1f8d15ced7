"""Native on-demand feature views, whose code is in the registry: run only where somebody has allowed it.

Loading one executes what the registry holds, so nothing of this is reached unless ``allow_registry_code`` is set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from feast import Field
from feast import OnDemandFeatureView as FeastOnDemand

from mlflow_core.errors import PlanError
from mlflow_core.feast.values import dtype_of_feast
from mlflow_core.spec import Arrays, DType, FeatureView, OnDemand, Selection

__all__ = ["dtype_of_message", "run_from_registry"]


def dtype_of_message(column: Any) -> DType:
    """Return the type of a column in one of the registry's messages.

    Raises:
        StoreError: There is no type of ours that holds it.
    """
    return dtype_of_feast(column.name, Field.from_proto(column).dtype)


def run_from_registry(message: Any, view_named: Callable[[str], FeatureView]) -> OnDemand:
    """Make a declaration of a native on-demand view; this executes code from the registry.

    Args:
        message: The registry's message.
        view_named: Finds a feature view that it reads.

    Raises:
        PlanError: Its mode is neither pandas nor python.
    """
    title = f'OnDemandFeatureView "{message.spec.name}"'
    feast_view = FeastOnDemand.from_proto(message)
    if feast_view.mode not in ("pandas", "python") or feast_view.singleton:
        raise PlanError(
            f'has mode "{feast_view.mode}"', object=title, expected='mode "pandas" or "python", no singleton'
        )
    sources = list(message.spec.sources.values())
    projections = [one.feature_view_projection for one in sources if one.HasField("feature_view_projection")]
    requests = [one.request_data_source for one in sources if one.HasField("request_data_source")]
    return OnDemand(
        name=message.spec.name,
        function=_as_arrays(feast_view),
        import_path=f"registry:{message.spec.name}",
        inputs=tuple(
            Selection(
                view=view_named(one.feature_view_name),
                features=tuple(column.name for column in one.feature_columns),
            )
            for one in projections
        ),
        request={
            column.name: dtype_of_message(column)
            for one in requests
            for column in one.request_data_options.schema
        },
        outputs={column.name: dtype_of_message(column) for column in message.spec.features},
    )


def _as_arrays(feast_view: FeastOnDemand) -> Callable[[Arrays], Arrays]:
    transformation: Any = feast_view.feature_transformation
    transform, python = transformation.udf, feast_view.mode == "python"

    def function(arrays: Arrays) -> Arrays:
        if python:
            given = transform({name: values.tolist() for name, values in arrays.items()})
            return {name: np.asarray(values) for name, values in given.items()}
        frame = transform(pd.DataFrame(dict(arrays)))
        return {name: frame[name].to_numpy() for name in frame.columns}

    return function
