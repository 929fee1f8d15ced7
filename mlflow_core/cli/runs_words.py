"""How runs are asked for in words of a command line, and how their states and params are told in such words.

What ``mlcore runs show`` prints of a param is what ``mlcore runs list --param`` takes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from mlflow_core.errors import UsageError, nearest

if TYPE_CHECKING:
    from mlflow_core.metadata import Bound
    from mlflow_core.metadata.records import Run, Step

__all__ = [
    "LOST",
    "bounds_of_words",
    "is_lost",
    "param_text",
    "params_of_words",
    "seconds",
    "state_named",
    "state_of",
]

LOST: Final = "lost"
"""What a run is called that is still recorded as running although its driver is gone."""

# A name may have such a sign in it, as that of a slice; what comes behind the last one is the number.
_BOUND: Final = re.compile(r"(.+?)(?<![<>=])(>=|<=|>|<|=)([^<>=]+)")
_METRIC: Final = "a name, one of > >= < <= = and a number, in quotes, e.g. --metric 'test.auc>0.7'"


def state_of(run: Run) -> str:
    """Return a run's state, or ``lost``; see ``is_lost``."""
    return LOST if is_lost(run) else run.state.value


def is_lost(run: Run) -> bool:
    """Whether a run counts as running although its driver's lease is over, or its process on this machine has ended."""
    from mlflow_core.config import SystemClock
    from mlflow_core.metadata.records import RunState
    from mlflow_core.workflow.lease import driver_is_gone

    # Leases are counted by the time that it is, whatever clock the project has.
    return run.state == RunState.RUNNING and (
        run.is_lost(SystemClock().now_us()) or driver_is_gone(run.lease_owner)
    )


def seconds(one: Run | Step, *, state: str = "running") -> str:
    """Return how long a run or a step took.

    Args:
        one: The run or step.
        state: What ``state_of`` says of a run; asked anew, it might say another thing than before.
    """
    if one.started_us is not None and one.ended_us is not None:
        return f"{(one.ended_us - one.started_us) / 1e6:.1f} s"
    return "not ended" if state == LOST else "running"


def state_named(word: str) -> str:
    """Read a state as lists show it.

    Raises:
        UsageError: There is no such state.
    """
    from mlflow_core.metadata.records import RunState

    known = (*(state.value for state in RunState), LOST)
    if word not in known:
        raise UsageError(
            f'"{word}" is no state of a run',
            object="--state",
            expected="a state, e.g. --state failed",
            hint=nearest(word, known),
        )
    return word


def params_of_words(words: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` words; a value is JSON, or else a text.

    Raises:
        UsageError: A word is none, or a name is given twice.

    Example:
        >>> params_of_words(["trainer.max_depth=3", "label=late", 'code="3"'])
        {'trainer.max_depth': 3, 'label': 'late', 'code': '3'}
    """
    params: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UsageError(
                f'"{word}" is no NAME=VALUE',
                object="--param",
                expected="a name as mlcore runs show prints it and a value, e.g. --param trainer.max_depth=3",
            )
        if name in params:
            raise UsageError(
                f'"{name}" is given twice',
                object="--param",
                expected="each name once, e.g. --param trainer.max_depth=3 --param trainer.eta=0.1",
            )
        params[name] = _value(text)
    return params


def param_text(value: object) -> str:
    """Write a param's value as ``params_of_words`` reads it: a text as it is where JSON would not read it.

    Example:
        >>> param_text("late"), param_text("3"), param_text(3), param_text(True)
        ('late', '"3"', '3', 'true')
    """
    if isinstance(value, str) and _value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def bounds_of_words(words: Sequence[str]) -> list[Bound]:
    """Read bounds of metrics, e.g. ``test.auc>0.7``.

    Raises:
        UsageError: A word is none.

    Example:
        >>> bounds_of_words(["test.auc >= 0.7"])
        [Bound(metric='test.auc', compare='>=', value=0.7)]
    """
    return [_bound(word) for word in words]


def _bound(word: str) -> Bound:
    from mlflow_core.metadata import Bound

    match = _BOUND.fullmatch(word)
    name, compare, number = (match[1].strip(), match[2], _number(match[3])) if match else ("", "", math.nan)
    if not name or math.isnan(number):
        raise UsageError(f'"{word}" is no bound of a metric', object="--metric", expected=_METRIC)
    return Bound(name, cast(Any, compare), number)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
