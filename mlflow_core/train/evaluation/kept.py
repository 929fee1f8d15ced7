"""An evaluation as files, whole: figures, every resample, slices, and the predictions that they were made from.

What ``Evaluation.to_json`` writes is for readers, and leaves the resamples out. These files give the same evaluation
back to the bit, and one evaluation always gives the same files. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.train.evaluation.bootstrap import Interval, Unit
from mlflow_core.train.evaluation.evaluate import Evaluation
from mlflow_core.train.evaluation.slices import Slice

__all__ = ["keep_evaluation", "kept_evaluation", "kept_predictions"]

_FACTS, _VALUES = "figures.json", "values.npy"
_PLAIN = ("models", "metrics", "rows", "positives", "days", "unit", "resamples", "seed", "task", "queries")

Floats = NDArray[np.float64]


def keep_evaluation(
    folder: Path, evaluation: Evaluation, predictions: Mapping[str, Floats] | None = None
) -> Path:
    """Write an evaluation into a folder.

    Args:
        folder: A new or empty folder.
        evaluation: What was measured.
        predictions: Predictions by model, (n,) or (n, k) each, in the evaluation's order.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = {name: getattr(evaluation, name) for name in _PLAIN}
    told = {**facts, "units": list(evaluation.draws), "slices": [asdict(one) for one in evaluation.slices]}
    (folder / _FACTS).write_text(json.dumps(told, indent=1, sort_keys=True))
    np.save(folder / _VALUES, evaluation.values, allow_pickle=False)
    for unit, draws in evaluation.draws.items():
        np.save(folder / _draws(unit), draws, allow_pickle=False)
    for number, name in enumerate(evaluation.models if predictions is not None else ()):
        np.save(folder / _predictions(number), (predictions or {})[name], allow_pickle=False)
    return folder


def kept_evaluation(folder: Path) -> Evaluation:
    """Read what ``keep_evaluation`` wrote.

    Raises:
        TrainError: It is no such folder.
    """
    try:
        told = json.loads((folder / _FACTS).read_text())
        plain: dict[str, Any] = {name: told[name] for name in _PLAIN}
        plain["models"], plain["metrics"] = tuple(told["models"]), tuple(told["metrics"])
        units = [cast(Unit, unit) for unit in told["units"]]
        slices = tuple(
            Slice(**{**one, "metrics": {name: Interval(**found) for name, found in one["metrics"].items()}})
            for one in told["slices"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainError(
            f"is not the folder of an evaluation: {type(error).__name__}: {error}", place=str(folder)
        ) from error
    draws = {unit: _load(folder / _draws(unit)) for unit in units}
    return Evaluation(values=_load(folder / _VALUES), draws=draws, slices=slices, **plain)


def kept_predictions(folder: Path, evaluation: Evaluation) -> dict[str, Floats]:
    """Read the predictions that were kept with an evaluation, by model.

    Raises:
        TrainError: They were not kept.
    """
    return {name: _load(folder / _predictions(n)) for n, name in enumerate(evaluation.models)}


def _draws(unit: str) -> str:
    return f"draws-{unit}.npy"


def _predictions(number: int) -> str:
    return f"predictions-{number}.npy"


def _load(path: Path) -> Floats:
    try:
        found: Floats = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise TrainError(f"is not there, or no array: {error}", place=str(path)) from error
    return found
