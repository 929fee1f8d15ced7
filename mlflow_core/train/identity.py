"""What tells one training from another: the settings that decide what is learned, and the code of a user's module.

Whoever keeps something for a training that is to go on, a checkpoint, a folder, a study, names it by this.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import orjson

from mlflow_core.spec.trainer import Family, Sklearn, Torch, Trainer

__all__ = ["identity_of", "modules_of", "paths_of", "settings_of"]

_HOW_IT_RUNS = {"recovery", "memory_per_worker"}
_HOW_TORCH_RUNS = {"recovery", "memory_per_worker", "workers", "device", "checkpoint_every"}


def identity_of(trainer: Trainer) -> str:
    """A digest of what decides the model that a trainer makes of the same data.

    How it runs is not of it: what happens when a worker is lost, how much memory it must have, and for networks how many
    ranks there are. A module or estimator of a user's counts by the text of its file; where that cannot be found,
    training itself says so.

    Args:
        trainer: The trainer.

    Example:
        >>> from mlflow_core.spec import Recovery, XGBoost
        >>> patient = XGBoost(recovery=Recovery(restarts=99))
        >>> identity_of(patient) == identity_of(XGBoost()), identity_of(XGBoost(seed=1)) == identity_of(XGBoost())
        (True, False)
    """
    return hashlib.sha256(orjson.dumps(_deciding(trainer), option=orjson.OPT_SORT_KEYS)).hexdigest()


def settings_of(trainer: Trainer) -> dict[str, Any]:
    """The settings of a trainer that decide its model, JSON-able; those of ``identity_of`` without a user's code.

    Example:
        >>> from mlflow_core.spec import XGBoost
        >>> settings_of(XGBoost(rounds=7))["rounds"]
        7
    """
    told = _deciding(trainer)
    inner = told.get("trainer")
    return {
        **{name: value for name, value in told.items() if name not in ("code", "trainer")},
        **({"trainer": {n: v for n, v in inner.items() if n != "code"}} if isinstance(inner, dict) else {}),
    }


def modules_of(trainer: Trainer) -> tuple[str, ...]:
    """The modules that a trainer names by import path, which may be the project's own.

    Example:
        >>> from mlflow_core.spec import Sklearn
        >>> modules_of(Sklearn(estimator="sklearn.linear_model:Ridge", objective="regression"))
        ('sklearn.linear_model',)
    """
    return tuple(path.partition(":")[0] for path in paths_of(trainer))


def paths_of(trainer: Trainer) -> tuple[str, ...]:
    """The import paths, ``module:name``, that a trainer names.

    Example:
        >>> from mlflow_core.spec import Sklearn
        >>> paths_of(Sklearn(estimator="sklearn.linear_model:Ridge", objective="regression"))
        ('sklearn.linear_model:Ridge',)
    """
    match trainer:
        case Family():
            return paths_of(trainer.trainer)
        case Torch(module=str(path)) | Sklearn(estimator=path):
            return (path,) if ":" in path else ()
    return ()


def _deciding(trainer: Trainer) -> dict[str, Any]:
    if isinstance(trainer, Family):
        told = trainer.model_dump(mode="json", exclude={"trainer"})
        return told | {"trainer": _deciding(trainer.trainer)}
    if isinstance(trainer, Torch):
        told = trainer.model_dump(mode="json", exclude=_HOW_TORCH_RUNS)
        return told | ({"code": _code(trainer.module)} if isinstance(trainer.module, str) else {})
    if isinstance(trainer, Sklearn):
        return trainer.model_dump(mode="json") | {"code": _code(trainer.estimator)}
    return trainer.model_dump(mode="json", exclude=_HOW_IT_RUNS)


def _code(path: str) -> str | None:
    """The digest of the file that a class is imported from."""
    try:
        found = importlib.util.find_spec(path.partition(":")[0])
    except (ImportError, ValueError):
        return None
    if found is None or found.origin is None or not Path(found.origin).is_file():
        return None
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()
