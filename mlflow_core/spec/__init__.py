"""What users declare: frozen values that do no I/O. Behaviour lives in the rooms that take them."""

from mlflow_core.spec.aggregate import FUNCTIONS, Agg, Boundary, Function, WindowColumn
from mlflow_core.spec.availability import Every
from mlflow_core.spec.check import Check, InRange, NullRate
from mlflow_core.spec.dataset import Dataset, Label, Spine, TimeSplit
from mlflow_core.spec.dtype import DType, Timestamp, dtype_of
from mlflow_core.spec.duration import Duration
from mlflow_core.spec.entity import Entity
from mlflow_core.spec.model import Named, Spec
from mlflow_core.spec.network import GRU, MLP, TCN, Autoencoder, FTTransformer, TwoTower
from mlflow_core.spec.on_demand import Arrays, OnDemand, on_demand
from mlflow_core.spec.pipeline import METRICS, Gate, Register, TrainingPipeline
from mlflow_core.spec.recovery import Recovery
from mlflow_core.spec.schedule import Drifted, Fresh, Schedule
from mlflow_core.spec.search import Choice, CrossValidation, Float, Int, LogFloat, Search
from mlflow_core.spec.service import ClockName, FeatureService
from mlflow_core.spec.source import (
    DeltaSource,
    IcebergSource,
    ParquetSource,
    Source,
    SqlSource,
    source_from_json,
)
from mlflow_core.spec.step import Step, StepFunction, step
from mlflow_core.spec.steps import PRODUCTS, Pipeline
from mlflow_core.spec.trainer import (
    Baseline,
    Family,
    LogisticRegression,
    Rate,
    Sklearn,
    Torch,
    Trainer,
    XGBoost,
)
from mlflow_core.spec.transform import Transform, transform
from mlflow_core.spec.view import FeatureView, Selection

__all__ = [
    "FUNCTIONS",
    "GRU",
    "METRICS",
    "MLP",
    "PRODUCTS",
    "TCN",
    "Agg",
    "Arrays",
    "Autoencoder",
    "Baseline",
    "Boundary",
    "Check",
    "Choice",
    "ClockName",
    "CrossValidation",
    "DType",
    "Dataset",
    "DeltaSource",
    "Drifted",
    "Duration",
    "Entity",
    "Every",
    "FTTransformer",
    "Family",
    "FeatureService",
    "FeatureView",
    "Float",
    "Fresh",
    "Function",
    "Gate",
    "IcebergSource",
    "InRange",
    "Int",
    "Label",
    "LogFloat",
    "LogisticRegression",
    "Named",
    "NullRate",
    "OnDemand",
    "ParquetSource",
    "Pipeline",
    "Rate",
    "Recovery",
    "Register",
    "Schedule",
    "Search",
    "Selection",
    "Sklearn",
    "Source",
    "Spec",
    "Spine",
    "SqlSource",
    "Step",
    "StepFunction",
    "TimeSplit",
    "Timestamp",
    "Torch",
    "Trainer",
    "TrainingPipeline",
    "Transform",
    "TwoTower",
    "WindowColumn",
    "XGBoost",
    "dtype_of",
    "on_demand",
    "source_from_json",
    "step",
    "transform",
]
