"""What a calling service imports: clients of ``mlcore serve``, sync and async, on httpx.

Stands alone: nothing else of this package is imported, and httpx (the extra ``client``) only when a client is
made (pyarrow and pandas only when asked for), so that ``import mlflow_core.client`` costs next to nothing.
"""

from mlflow_core.client.answers import (
    ErasureAnswer,
    FeatureAnswer,
    ModelVersion,
    PredictionAnswer,
    PushAnswer,
)
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
    "ErasureAnswer",
    "FeatureAnswer",
    "FeatureClient",
    "ModelVersion",
    "PredictionAnswer",
    "PushAnswer",
    "RequestRefused",
    "Retry",
    "ServerFailed",
    "ServerUnavailable",
    "UnexpectedAnswer",
]
