"""How settings are proposed and bad trials ended: optuna's samplers and pruners, seeded trial by trial.

A sampler is made anew for each trial, with a seed of the search's and the trial's number. So what a trial proposes
depends on the trials before it and on nothing else: a study that was killed goes on as if it had not been.

Sources: TPE, Bergstra et al. 2011 (with the constant liar for trials in parallel); GP with log expected improvement,
Ament et al. 2023; CMA-ES, Hansen 2016; ASHA, Li et al. 2020; Hyperband, Li et al. 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from mlflow_core.errors import TrainError
from mlflow_core.spec.search import Float, Int, LogFloat, Search
from mlflow_core.spec.trainer import Torch, Trainer, XGBoost

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

__all__ = ["Looks", "check_library", "looks_of", "pruner_of", "sampler_of"]

_LIBRARIES = {"gp": ("torch", "scipy"), "cmaes": ("cmaes",)}
_FACTOR = 2
_FIRST = 4
_MEDIAN_LOOKS = 10


@dataclass(frozen=True)
class Looks:
    """After which steps a trial is looked at.

    Args:
        steps: Rounds, epochs, or folds of a whole trial; 0 where it has none.
        first: The first that is looked at.
        at: All of them, counted from 1; the last step is none of them, for nothing is saved by then.
    """

    steps: int
    first: int
    at: frozenset[int]


def check_library(search: Search) -> None:
    """Refuse a sampler whose library is not installed.

    Raises:
        TrainError: Says what to install.
    """
    for library in _LIBRARIES.get(search.sampler, ()):
        if find_spec(library) is None:
            raise TrainError(
                f'the sampler "{search.sampler}" needs {library}, which is not installed',
                object="Search",
                place=search.place,
                hint=f"Install {library}, or use the sampler tpe or random.",
            )


def looks_of(trainer: Trainer, search: Search) -> Looks:
    """Decide when trials are looked at.

    The first look comes after a quarter of the steps, and the better half goes on: sooner, slow learning rates would
    always look bad. With folds, a trial is looked at after each of them.
    """
    if search.validation is not None:
        steps, first = search.validation.folds, 1
    else:
        steps = _steps(trainer, search)
        first = max(1, steps // _FIRST)
    if search.pruner is None or not steps:
        return Looks(steps, first, frozenset())
    if search.validation is not None:
        return Looks(steps, first, frozenset(range(1, steps)))
    if search.pruner == "median":
        every = max(1, steps // _MEDIAN_LOOKS)
        return Looks(steps, first, frozenset(range(max(first, every), steps, every)))
    rungs, at = [], first
    while at < steps:
        rungs.append(at)
        at *= _FACTOR
    return Looks(steps, first, frozenset(rungs))


def pruner_of(search: Search, looks: Looks) -> BasePruner:
    """Make the pruner."""
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

    match search.pruner if looks.at else None:
        case "asha":
            return SuccessiveHalvingPruner(min_resource=looks.first, reduction_factor=_FACTOR)
        case "hyperband":
            return HyperbandPruner(
                min_resource=looks.first, max_resource=looks.steps, reduction_factor=_FACTOR
            )
        case "median":
            return MedianPruner(n_startup_trials=5, n_warmup_steps=0)
        case None:
            return NopPruner()


def sampler_of(search: Search, trial: int, part: int = 0) -> BaseSampler:
    """Make the sampler that proposes one trial.

    Args:
        search: The search.
        trial: The trial's number.
        part: Which of its settings are drawn: 0 for those that are drawn together, then one by one.
    """
    from optuna.samplers import CmaEsSampler, GPSampler, RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([search.seed, trial, part]).generate_state(1)[0])
    match search.sampler:
        case "tpe":
            return TPESampler(seed=seed)
        case "random":
            return RandomSampler(seed=seed)
        case "gp":
            return GPSampler(seed=seed, warn_independent_sampling=False)
        case "cmaes":
            return CmaEsSampler(seed=seed, warn_independent_sampling=False)


def _steps(trainer: Trainer, search: Search) -> int:
    name = "rounds" if isinstance(trainer, XGBoost) else "epochs" if isinstance(trainer, Torch) else None
    if name is None:
        return 0
    dimension = search.space.get(name)
    if isinstance(dimension, Int | Float | LogFloat):
        return int(dimension.high)
    if dimension is not None:
        return max(int(one) for one in dimension.options if one is not None)
    return int(getattr(trainer, name))
