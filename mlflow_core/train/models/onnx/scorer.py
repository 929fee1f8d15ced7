"""An exported model read back and scored by ONNX Runtime: nothing of the trainer's library is needed.

The folder says in ``features.json`` how columns become the graph's input, so that it predicts from the same columns as
the model it was made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.models.extras import check_installed
from mlflow_core.train.models.facts import preprocessing_of

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["FEATURES", "GRAPH", "INPUT", "OUTPUT", "SCHEMA", "OnnxScorer"]

GRAPH, FEATURES = "model.onnx", "features.json"
INPUT, OUTPUT = "features", "predictions"
SCHEMA = 1
_FEW_ROWS = 4096


@dataclass(frozen=True)
class OnnxScorer:
    """An exported model.

    Args:
        preprocessing: How columns become the graph's input.
        outputs: The values' names where there are several a row; else empty.
        graph: The model as ONNX.
    """

    preprocessing: Preprocessing
    outputs: tuple[str, ...]
    graph: bytes = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder that ``export_onnx`` wrote.

        Raises:
            TrainError: A file is missing, damaged, or of a format this version does not know.
        """
        check_installed("onnx", f"{folder}: an exported model")
        facts = _facts(folder / FEATURES)
        try:
            graph = (folder / GRAPH).read_bytes()
        except FileNotFoundError:
            raise TrainError("there is no such file", place=str(folder / GRAPH)) from None
        if facts["digest"] != f"sha256:{hashlib.sha256(graph).hexdigest()}":
            raise TrainError(
                f"the file is not the one that was exported: its digest differs from {FEATURES}",
                place=str(folder / GRAPH),
                hint="Export the model again.",
            )
        return cls(preprocessing_of(facts["features"]), tuple(facts["outputs"]), graph)

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """Predict each row; see ``Model.predict``."""
        return self.score(self.preprocessing.matrix(table))

    def predict_columns(self, columns: Mapping[str, Sequence[Any]]) -> NDArray[np.float64]:
        """Predict for a few rows of Python values; see ``Model.predict_columns``."""
        return self.score(self.preprocessing.matrix_of(columns))

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict from a matrix that ``preprocessing`` made, (n_rows, width)."""
        if not len(matrix):
            return np.empty((0, len(self.outputs)) if self.outputs else 0)
        running = self._one_thread if len(matrix) <= _FEW_ROWS else self._all_threads
        (values,) = running.run(None, {INPUT: np.ascontiguousarray(matrix)})
        found: NDArray[np.float64] = values.astype(np.float64)
        return found if self.outputs else found[:, 0]

    @cached_property
    def _one_thread(self) -> onnxruntime.InferenceSession:
        """For a few rows, waking threads takes longer than the rows."""
        return self._running(1)

    @cached_property
    def _all_threads(self) -> onnxruntime.InferenceSession:
        return self._running(0)

    def _running(self, threads: int) -> onnxruntime.InferenceSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise TrainError(
            "there is no such file, so this is not an exported model's folder", place=str(path)
        ) from None
    except orjson.JSONDecodeError as error:
        raise TrainError(f"is not JSON: {error}", place=str(path)) from None
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        found = facts.get("schema", "unknown") if isinstance(facts, dict) else "unknown"
        raise TrainError(f"is of schema {found}", place=str(path), expected=f"schema {SCHEMA}")
    return facts
