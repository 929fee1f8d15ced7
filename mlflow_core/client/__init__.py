"""What a calling service imports: clients of ``mlcore serve``, sync and async, on httpx.

Stands alone: nothing else of this package is imported, and httpx (the extra ``client``) only when a client is
made, so that ``import mlflow_core.client`` costs next to nothing.
"""

from mlflow_core.client.answers import FeatureAnswer, ModelVersion, PredictionAnswer
from mlflow_core.client.calls import AsyncFeatureClient, FeatureClient
from mlflow_core.client.errors import (
    ClientError,
    RequestRefused,
    ServerFailed,
    ServerUnavailable,
    UnexpectedAnswer,
)
from mlflow_core.client.retry import Retry

__all__ = [
    "AsyncFeatureClient",
    "ClientError",
    "FeatureAnswer",
    "FeatureClient",
    "ModelVersion",
    "PredictionAnswer",
    "RequestRefused",
    "Retry",
    "ServerFailed",
    "ServerUnavailable",
    "UnexpectedAnswer",
]
