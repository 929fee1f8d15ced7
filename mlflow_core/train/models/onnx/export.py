"""Export a model as ONNX, and refuse to if the graph does not predict what the model predicts on real rows.

The folder holds ``model.onnx``, ``features.json`` (how columns become its input, which the graph does not do) and
``parity.json`` (how far it is from the model on the rows given). It is read back before it is compared, as a server would
read it.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.models.extras import check_installed
from mlflow_core.train.models.model import Model
from mlflow_core.train.models.onnx.scorer import FEATURES, GRAPH, INPUT, OUTPUT, SCHEMA, OnnxScorer

if TYPE_CHECKING:
    import onnx

__all__ = ["PARITY", "TOLERANCE", "Exported", "export_onnx"]

PARITY = "parity.json"
TOLERANCE = 1e-5
"""How far a prediction may be off, as a share of the greatest one of its output: graphs compute in float32."""


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Args:
        folder: Where it is.
        rows: How many rows were compared.
        missing: How many of their values are missing.
        greatest_absolute: Greatest difference from the model's predictions.
        greatest_relative: The same as a share of the greatest prediction of that output.
        tolerance: What the latter may be at most.
        size: Bytes of the graph.
    """

    folder: Path
    rows: int
    missing: int
    greatest_absolute: float
    greatest_relative: float
    tolerance: float
    size: int


def export_onnx(model: Model, folder: Path, rows: pa.Table, *, tolerance: float = TOLERANCE) -> Exported:
    """Write a model as ONNX into a folder, which is made, or replaced as a whole if it is an earlier export.

    Args:
        model: The model, of any trainer.
        folder: Where it goes.
        rows: Real rows, with missing values as they occur: the graph must predict what the model predicts of them.
        tolerance: How far a prediction may be off, as a share of the greatest one of its output.

    Returns:
        What was compared, and how far the graph is off.

    Raises:
        TrainError: The model cannot be written as ONNX; there are no rows; the folder holds something else; or the
            graph predicts something else, which names the worst row. The folder is as it was then.
    """
    check_installed("onnx", "an export")
    if folder.exists() and any(folder.iterdir()) and not (folder / FEATURES).is_file():
        raise TrainError(
            "holds something else", place=str(folder), expected="a new folder, or an earlier export"
        )
    if not rows.num_rows:
        raise TrainError(
            "there are no rows to compare the exported model on", expected="at least one real row"
        )
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        graph = _graph(model).SerializeToString(deterministic=True)
        (aside / GRAPH).write_bytes(graph)
        (aside / FEATURES).write_bytes(_json(_facts(model, graph)))
        exported = _compared(model, OnnxScorer.load(aside), rows, folder, tolerance)
        facts = {name: value for name, value in asdict(exported).items() if name != "folder"}
        (aside / PARITY).write_bytes(_json(facts))
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return exported


def _graph(model: Model) -> onnx.ModelProto:
    match model.kind:
        case "xgboost":
            from mlflow_core.train.models.onnx.trees import booster_graph

            return booster_graph(model.scorer)  # type: ignore[arg-type]
        case "torch":
            from mlflow_core.train.models.onnx.network import network_graph

            return network_graph(model.scorer)  # type: ignore[arg-type]
        case "sklearn":
            from mlflow_core.train.models.onnx.estimator import estimator_graph

            return estimator_graph(model.scorer)  # type: ignore[arg-type]
    raise TrainError(
        f'a model of the kind "{model.kind}" cannot be written as ONNX', hint="Use the native format."
    )


def _facts(model: Model, graph: bytes) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "digest": f"sha256:{hashlib.sha256(graph).hexdigest()}",
        "kind": model.kind,
        "task": model.task,
        "objective": model.objective,
        "label": model.label,
        "outputs": list(model.outputs),
        "request": list(model.request),
        "features": model.preprocessing.to_json(),
        "columns": list(model.preprocessing.columns),
        "input": {"name": INPUT, "type": "float32", "missing": "NaN"},
        "output": {"name": OUTPUT, "type": "float32"},
    }


def _compared(model: Model, exported: OnnxScorer, rows: pa.Table, folder: Path, tolerance: float) -> Exported:
    matrix = model.preprocessing.matrix(rows)
    ours, theirs = model.predict(rows), exported.predict(rows)
    if ours.shape != theirs.shape:
        raise TrainError(
            f"the exported model gives an array of {theirs.shape} for {rows.num_rows} rows, the model of {ours.shape}",
            hint="Use the native format.",
        )
    ours, theirs = ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1)
    apart = np.where((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)), 0.0, np.abs(ours - theirs))
    scale = np.max(np.abs(ours), axis=0, initial=0.0, where=np.isfinite(ours))
    relative = apart / np.where(scale > 0, scale, 1.0)
    relative[np.isnan(relative)] = np.inf
    if relative.max() > tolerance:
        raise _differs(model, rows, ours, theirs, relative, tolerance)
    return Exported(
        folder,
        rows.num_rows,
        int(np.isnan(matrix).sum()),
        float(apart.max()),
        float(relative.max()),
        tolerance,
        len(exported.graph),
    )


def _differs(
    model: Model,
    rows: pa.Table,
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    relative: NDArray[np.float64],
    tolerance: float,
) -> TrainError:
    row, output = (int(index) for index in np.unravel_index(np.argmax(relative), relative.shape))
    values = rows.select(list(model.features)).slice(row, 1).to_pylist()[0]
    shown = ", ".join(f"{name}={value}" for name, value in list(values.items())[:12])
    of = f' of output "{model.outputs[output]}"' if model.outputs else ""
    count = int((relative.max(axis=1) > tolerance).sum())
    return TrainError(
        f"the exported model differs in {count:,} of {rows.num_rows:,} rows, most in row {row} ({shown}): the model "
        f"predicts {ours[row, output]:.9g}{of}, ONNX {theirs[row, output]:.9g}",
        expected=f"at most {tolerance:g} of the greatest prediction apart",
        hint="Use the native format.",
    )


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
