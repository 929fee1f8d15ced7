"""A training pipeline as a graph of steps, from its dataset to a registered model, and running it."""

from mlflow_core.workflow.training.result import Trained
from mlflow_core.workflow.training.run import run_pipeline

__all__ = ["Trained", "run_pipeline"]
