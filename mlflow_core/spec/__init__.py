"""What users declare: frozen values that do no I/O. Behaviour lives in the rooms that take them."""

from mlflow_core.spec.aggregate import FUNCTIONS, Agg, Boundary, Function, WindowColumn
from mlflow_core.spec.availability import Every
from mlflow_core.spec.check import Check, InRange, NullRate
from mlflow_core.spec.dataset import Dataset, Label, Spine, TimeSplit
from mlflow_core.spec.dtype import DType, Timestamp, dtype_of
from mlflow_core.spec.duration import Duration
from mlflow_core.spec.entity import Entity
from mlflow_core.spec.model import Named, Spec
from mlflow_core.spec.on_demand import Arrays, OnDemand, on_demand
from mlflow_core.spec.pipeline import METRICS, Gate, Register, TrainingPipeline
from mlflow_core.spec.service import ClockName, FeatureService
from mlflow_core.spec.source import (
    DeltaSource,
    IcebergSource,
    ParquetSource,
    Source,
    SqlSource,
    source_from_json,
)
from mlflow_core.spec.trainer import Baseline, LogisticRegression, Rate, Trainer, XGBoost
from mlflow_core.spec.transform import Transform, transform
from mlflow_core.spec.view import FeatureView, Selection

__all__ = [
    "FUNCTIONS",
    "METRICS",
    "Agg",
    "Arrays",
    "Baseline",
    "Boundary",
    "Check",
    "ClockName",
    "DType",
    "Dataset",
    "DeltaSource",
    "Duration",
    "Entity",
    "Every",
    "FeatureService",
    "FeatureView",
    "Function",
    "Gate",
    "IcebergSource",
    "InRange",
    "Label",
    "LogisticRegression",
    "Named",
    "NullRate",
    "OnDemand",
    "ParquetSource",
    "Rate",
    "Register",
    "Selection",
    "Source",
    "Spec",
    "Spine",
    "SqlSource",
    "TimeSplit",
    "Timestamp",
    "Trainer",
    "TrainingPipeline",
    "Transform",
    "WindowColumn",
    "XGBoost",
    "dtype_of",
    "on_demand",
    "source_from_json",
    "transform",
]
