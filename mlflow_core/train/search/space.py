"""The settings that a search may change, as the trainer's own fields: checked before anything runs, then applied.

A name is a field of the trainer (``max_depth``), or a path into it (``params.gamma``, ``module.dropout``,
``trainer.max_depth`` of a family). What a field takes is known by the trainer alone: both ends of a dimension and every
option are tried on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_core.errors import SpecError, nearest
from mlflow_core.spec.model import Spec
from mlflow_core.spec.search import Choice, Dimension, Int, Search
from mlflow_core.spec.trainer import Trainer

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial as Asked

__all__ = ["Space", "apply_settings", "space_of"]

_FIXED = {
    "kind": "which trainer it is cannot be searched",
    "workers": "a trial trains with one rank",
    "recovery": "it changes no model",
    "memory_per_worker": "it changes no model",
    "checkpoint_every": "it changes no model's quality",
}


@dataclass(frozen=True)
class Space:
    """The dimensions of a search.

    Args:
        dimensions: By name, in a fixed order.
    """

    dimensions: Mapping[str, Dimension]

    def suggest(self, trial: Asked, before: Callable[[int], None]) -> dict[str, Any]:
        """Let a trial propose a value of each dimension.

        Args:
            trial: Optuna's handle.
            before: Called before each one with its place, from 1.
        """
        settings: dict[str, Any] = {}
        for place, (name, one) in enumerate(self.dimensions.items(), start=1):
            before(place)
            if isinstance(one, Choice):
                settings[name] = trial.suggest_categorical(name, list(one.options))
            elif isinstance(one, Int):
                settings[name] = trial.suggest_int(name, one.low, one.high, log=one.log)
            else:
                settings[name] = trial.suggest_float(name, one.low, one.high, log=one.kind == "log_float")
        return settings

    def distributions(self) -> dict[str, BaseDistribution]:
        """The dimensions as optuna's distributions."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        made: dict[str, BaseDistribution] = {}
        for name, one in self.dimensions.items():
            if isinstance(one, Choice):
                made[name] = CategoricalDistribution(list(one.options))
            elif isinstance(one, Int):
                made[name] = IntDistribution(one.low, one.high, log=one.log)
            else:
                made[name] = FloatDistribution(one.low, one.high, log=one.kind == "log_float")
        return made

    def to_json(self) -> dict[str, Any]:
        """The dimensions as JSON-able values by name."""
        return {name: one.model_dump(mode="json") for name, one in self.dimensions.items()}


def space_of(trainer: Trainer, search: Search) -> Space:
    """Check a search's dimensions and first settings against the trainer.

    Args:
        trainer: Whose settings are searched.
        search: The search.

    Returns:
        The space, its dimensions sorted by name.

    Raises:
        SpecError: A name is not a setting of the trainer, a value is not one that it takes, or the first settings
            name something else than the dimensions, or lie outside of them.
    """
    for name, dimension in search.space.items():
        _check_name(trainer, search, name)
        for value in _probes(dimension):
            try:
                apply_settings(trainer, {name: value})
            except SpecError as error:
                raise search.wrong(
                    f'the dimension "{name}" holds {value!r}, which the trainer refuses: {error.what}',
                    hint=f"It is searched over {dimension!r}.",
                ) from None
    for number, first in enumerate(search.start):
        _check_start(search, number, first)
    return Space({name: search.space[name] for name in sorted(search.space)})


def apply_settings(trainer: Trainer, settings: Mapping[str, Any]) -> Trainer:
    """The trainer with some settings changed.

    Args:
        trainer: The trainer.
        settings: Value by name; dots reach inside.

    Raises:
        SpecError: The trainer refuses a value.

    Example:
        >>> from mlflow_core.spec.trainer import XGBoost
        >>> apply_settings(XGBoost(), {"max_depth": 3, "params.gamma": 0.5}).params
        {'gamma': 0.5}
    """
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        *path, last = name.split(".")
        at = tree
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    changed: Trainer = _changed(trainer, tree)
    return changed


def _changed(spec: Any, tree: Mapping[str, Any]) -> Any:
    fields = {name: getattr(spec, name) for name in type(spec).model_fields}
    for name, value in tree.items():
        own = fields[name]
        if isinstance(own, Spec) and isinstance(value, Mapping):
            fields[name] = _changed(own, value)
        elif isinstance(own, Mapping) and isinstance(value, Mapping):
            fields[name] = {**own, **value}
        else:
            fields[name] = value
    return type(spec)(**fields)


def _check_name(trainer: Trainer, search: Search, name: str) -> None:
    head, *rest = name.split(".")
    if head in _FIXED:
        raise search.wrong(f'"{name}" is not searched: {_FIXED[head]}')
    at: Any = trainer
    for position, part in enumerate(name.split(".")):
        if isinstance(at, Mapping):
            return  # what is in such a field is known by the trainer's library only
        if not isinstance(at, Spec) or part not in type(at).model_fields or part == "kind":
            raise search.wrong(
                f'"{name}" is not a setting of {type(trainer).__name__}',
                hint=nearest(name, _names(trainer)),
            )
        at = getattr(at, part)
        if position == len(rest) and isinstance(at, Mapping):
            raise search.wrong(
                f'"{name}" holds several settings', hint=f'Name one of them, such as "{name}.gamma".'
            )


def _names(spec: Spec, before: str = "") -> Iterator[str]:
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if name in _FIXED:
            continue
        if isinstance(value, Spec):
            yield from _names(value, f"{before}{name}.")
        elif isinstance(value, Mapping):
            yield f"{before}{name}.*"
        else:
            yield before + name


def _probes(dimension: Dimension) -> tuple[Any, ...]:
    """Values that stand for all of a dimension: its ends, its options, and a number that is not whole."""
    if isinstance(dimension, Choice):
        return dimension.options
    if isinstance(dimension, Int):
        return dimension.low, dimension.high
    return dimension.low, dimension.high, dimension.low + (dimension.high - dimension.low) / math.pi


def _check_start(search: Search, number: int, settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if name not in search.space:
            raise search.wrong(
                f'the settings {number} of "start" name "{name}", which is not searched',
                hint=nearest(name, search.space),
            )
        dimension = search.space[name]
        if not _holds(dimension, value):
            raise search.wrong(
                f'the settings {number} of "start" have {value!r} for "{name}"',
                expected=f"a value of {dimension!r}",
            )


def _holds(dimension: Dimension, value: Any) -> bool:
    if isinstance(dimension, Choice):
        return any(value == one and type(value) is type(one) for one in dimension.options)
    if isinstance(value, bool) or not isinstance(value, int if isinstance(dimension, Int) else int | float):
        return False
    return bool(dimension.low <= value <= dimension.high)
