"""Which libraries a kind of model needs, told before one of them is missed in the middle of something."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from mlflow_core.errors import TrainError

__all__ = ["check_installed"]

_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch", "safetensors"),
    "sklearn": ("sklearn", "skops"),
    "onnx": ("onnx", "onnxruntime", "skl2onnx", "onnxscript"),
}


def check_installed(extra: str, what: str) -> None:
    """Refuse what needs an extra that is not installed.

    Args:
        extra: Its name, which is a kind of model's too; one without libraries of its own passes.
        what: What needs it, for the message.

    Raises:
        TrainError: Names the library that is missing, and how it is installed.

    Example:
        >>> check_installed("xgboost", "the model")
    """
    for library in _LIBRARIES.get(extra, ()):
        if find_spec(library) is None:
            raise TrainError(
                f"{what} needs the library {library}, which is not installed",
                hint=f'Install the extra: pip install "mlflow-core[{extra}]".',
            )
