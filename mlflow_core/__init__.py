"""mlflow-core: a declarative feature store and ML workflow framework.

``import mlflow_core as ml`` gives what spec files use; each name is loaded when it is first asked for (PEP 562),
so that importing the package, or only ``mlflow_core.client``, stays instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_core.algebra.functions import day_of_week, hour, minute_of_day, month
    from mlflow_core.spec import (
        GRU,
        MLP,
        TCN,
        Agg,
        Autoencoder,
        Choice,
        CrossValidation,
        Dataset,
        DeltaSource,
        Drifted,
        DType,
        Entity,
        Every,
        Family,
        FeatureService,
        FeatureView,
        Float,
        Fresh,
        FTTransformer,
        Gate,
        IcebergSource,
        InRange,
        Int,
        Label,
        LogFloat,
        LogisticRegression,
        NullRate,
        OnDemand,
        ParquetSource,
        Pipeline,
        Rate,
        Recovery,
        Register,
        Schedule,
        Search,
        Sklearn,
        Spine,
        SqlSource,
        Step,
        TimeSplit,
        Timestamp,
        Torch,
        TrainingPipeline,
        TwoTower,
        XGBoost,
        on_demand,
        step,
        transform,
    )
    from mlflow_core.workflow.project import load

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "MLP",
    "TCN",
    "Agg",
    "Autoencoder",
    "Choice",
    "CrossValidation",
    "DType",
    "Dataset",
    "DeltaSource",
    "Drifted",
    "Entity",
    "Every",
    "FTTransformer",
    "Family",
    "FeatureService",
    "FeatureView",
    "Float",
    "Fresh",
    "Gate",
    "IcebergSource",
    "InRange",
    "Int",
    "Label",
    "LogFloat",
    "LogisticRegression",
    "NullRate",
    "OnDemand",
    "ParquetSource",
    "Pipeline",
    "Rate",
    "Recovery",
    "Register",
    "Schedule",
    "Search",
    "Sklearn",
    "Spine",
    "SqlSource",
    "Step",
    "TimeSplit",
    "Timestamp",
    "Torch",
    "TrainingPipeline",
    "TwoTower",
    "XGBoost",
    "day_of_week",
    "hour",
    "load",
    "minute_of_day",
    "month",
    "on_demand",
    "step",
    "transform",
]

_HOMES = {
    "day_of_week": "mlflow_core.algebra.functions",
    "hour": "mlflow_core.algebra.functions",
    "load": "mlflow_core.workflow.project",
    "minute_of_day": "mlflow_core.algebra.functions",
    "month": "mlflow_core.algebra.functions",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "mlflow_core.spec")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
