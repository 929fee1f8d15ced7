"""Window aggregates as users declare them, and the columns that they stand for.

One ``Agg`` may name several functions and several windows; ``Agg.columns`` multiplies them out. What each
function computes is in ``mlflow_core.algebra``; here is only what may be written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import field_validator, model_validator

from mlflow_core.errors import nearest
from mlflow_core.spec.duration import Duration, Length
from mlflow_core.spec.model import NAME, Spec

__all__ = ["FUNCTIONS", "Agg", "Boundary", "Function", "WindowColumn"]

Boundary = Literal["(]", "[)"]

PLAIN = (
    *("count", "count_distinct", "sum", "mean", "std", "var", "min", "max", "first", "last"),
    "approx_count_distinct",
)
FUNCTIONS = (*PLAIN, "quantile(q)", "first(n)", "last(n)", "approx_quantile(q)", "top_k(k)")
MOST_VALUES = 100
"""The longest list that ``top_k`` can promise anything about; see ``mlflow_core.algebra.sketches``."""
_CALL = re.compile(r"([a-z_]+)(?:\(\s*([^()]*?)\s*\))?\Z")
_HOP = re.compile(r"hop\((.+)\)\Z")


class Function(NamedTuple):
    """An aggregate function with its argument.

    The argument is q of ``quantile(q)`` and ``approx_quantile(q)``, n of ``first(n)`` and ``last(n)``, k of
    ``top_k(k)``.
    """

    name: str
    argument: float | int | None = None

    def __str__(self) -> str:
        return self.name if self.argument is None else f"{self.name}({self.argument:g})"

    @property
    def suffix(self) -> str:
        """How it appears in a default column name: ``mean``, ``quantile_0_9``, ``last_5``."""
        return self.name if self.argument is None else f"{self.name}_{self.argument:g}".replace(".", "_")


@dataclass(frozen=True, slots=True)
class WindowColumn:
    """One output column of a window aggregate.

    Attributes:
        name: The feature's name.
        column: The aggregated column, or ``"*"`` for rows.
        function: What is computed.
        over: The window's length.
        offset: How far before the evaluation time the window ends.
        where: SQL condition on the events, or None.
        boundary: Which edge belongs to the window.
        hop: The start of the window is rounded down to a multiple of this; None for exact edges.
    """

    name: str
    column: str
    function: Function
    over: Duration
    offset: Duration = Duration("0s")
    where: str | None = None
    boundary: Boundary = "(]"
    hop: Duration | None = None


class Agg(Spec):
    """Aggregates of a column over windows that end at the evaluation time.

    Args:
        column: A column of the source or of the view's ``columns``; ``"*"`` counts rows.
        functions: One or several of count, count_distinct, sum, mean, std, var, min, max, first, last,
            ``quantile(q)``, ``first(n)``, ``last(n)``; and of the sketches, whose error ``algebra.sketches``
            states: approx_count_distinct, ``approx_quantile(q)``, ``top_k(k)``.
        over: One or several window lengths, e.g. ``["1h", "24h"]``.
        offset: The window ends this long before the evaluation time.
        where: SQL condition; null or false drops the event.
        name: The column's name where one function and one window are given.
        boundary: ``"(]"`` includes an event at the window's end, ``"[)"`` one at its start.
        accuracy: ``"exact"``, or ``"hop(5m)"``: the start is rounded down to a multiple of the hop.

    Example:
        >>> [c.name for c in Agg("dep_delay", ["mean", "max"], over=["1h", "24h"]).columns("delays")]
        ['dep_delay_mean_1h', 'dep_delay_mean_24h', 'dep_delay_max_1h', 'dep_delay_max_24h']
        >>> Agg("*", "count", over="3h", offset="7d").columns("delays")[0].name
        'delays_count_3h_lag7d'
    """

    positional: ClassVar[tuple[str, ...]] = ("column", "functions")
    column: str
    functions: tuple[str, ...]
    over: tuple[Duration, ...]
    offset: Duration = Duration("0s")
    where: str | None = None
    name: str | None = None
    boundary: Boundary = "(]"
    accuracy: str = "exact"

    if TYPE_CHECKING:

        def __init__(
            self,
            column: str,
            functions: str | Sequence[str],
            *,
            over: Length | Sequence[Length],
            offset: Length = ...,
            where: str | None = None,
            name: str | None = None,
            boundary: Boundary = "(]",
            accuracy: str = "exact",
        ) -> None: ...

    @field_validator("functions", "over", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list | tuple) else (value,)

    @field_validator("functions")
    @classmethod
    def _known_functions(cls, functions: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(_parsed(text)) for text in functions)

    @field_validator("accuracy")
    @classmethod
    def _known_accuracy(cls, accuracy: str) -> str:
        _hop(accuracy)
        return accuracy

    @model_validator(mode="after")
    def _unambiguous(self) -> Agg:
        if not self.functions or not self.over:
            raise ValueError("needs at least one function and one window")
        for window in self.over:
            if window <= 0:
                raise ValueError(
                    f'field "over": a window of {window} holds nothing; it must be longer than 0'
                )
        if len(set(self.over)) != len(self.over):
            written = ", ".join(str(window) for window in self.over)
            raise ValueError(
                f'field "over" gives one window twice ({written}); two columns would hold the same values'
            )
        if self.name is not None and len(self.functions) * len(self.over) > 1:
            raise ValueError(
                f'field "name" is "{self.name}" but {len(self.functions) * len(self.over)} columns are declared'
            )
        if self.name is not None and not NAME.match(self.name):
            raise ValueError(f'field "name": "{self.name}" is not a name of letters, digits and underscores')
        if self.column == "*" and self.functions != ("count",):
            raise ValueError(
                f'"*" can only be counted, not {", ".join(f for f in self.functions if f != "count")}'
            )
        return self

    def columns(self, view: str) -> tuple[WindowColumn, ...]:
        """Multiply functions and windows out into columns; ``view`` names the columns that count rows."""
        hop = _hop(self.accuracy)
        return tuple(
            WindowColumn(
                name=self.name or self._default_name(view, _parsed(function), window),
                column=self.column,
                function=_parsed(function),
                over=window,
                offset=self.offset,
                where=self.where,
                boundary=self.boundary,
                hop=hop,
            )
            for function in self.functions
            for window in self.over
        )

    def _default_name(self, view: str, function: Function, window: Duration) -> str:
        stem = view if self.column == "*" else self.column
        lag = f"_lag{self.offset}" if self.offset else ""
        return f"{stem}_{function.suffix}_{window}{lag}".replace("-", "minus")


def _parsed(text: str) -> Function:
    match = _CALL.match(text.strip())
    if match is None:
        raise ValueError(f'"{text}" is not a function. {nearest(text, FUNCTIONS, limit=20)}')
    name, argument = match.groups()
    if name in ("quantile", "approx_quantile"):
        return Function(name, _quantile(text, name, argument))
    if name == "top_k":
        return Function(name, _most_frequent(text, argument))
    if name in ("first", "last") and argument is not None:
        if not re.fullmatch(r"[1-9]\d{0,5}", argument):
            raise ValueError(f'"{text}": n must be a whole number of at least 1')
        return Function(name, int(argument))
    if name not in PLAIN:
        raise ValueError(f'"{text}" is not a function. {nearest(name, FUNCTIONS, limit=20)}')
    if argument is not None:
        raise ValueError(f'"{text}": {name} takes no argument; write "{name}"')
    return Function(name)


def _quantile(text: str, name: str, argument: str | None) -> float:
    try:
        q = float(argument or "")
    except ValueError:
        raise ValueError(f'"{text}": write {name}(q) with q from 0 to 1, e.g. "{name}(0.9)"') from None
    if not 0.0 <= q <= 1.0:
        percent = f'; for {q:g} % write "{name}({q / 100:g})"' if 1.0 < q <= 100.0 else ""
        raise ValueError(f'"{text}": q is {q}, it must be from 0 to 1{percent}')
    return q


def _most_frequent(text: str, argument: str | None) -> int:
    if argument is None or not re.fullmatch(r"\d{1,9}", argument):
        raise ValueError(f'"{text}": write top_k(k) with k from 1 to {MOST_VALUES}, e.g. "top_k(5)"')
    k = int(argument)
    if not 1 <= k <= MOST_VALUES:
        close = min(max(k, 1), MOST_VALUES)
        raise ValueError(
            f'"{text}": k is {k}, it must be from 1 to {MOST_VALUES}; the nearest is "top_k({close})"'
        )
    return k


def _hop(accuracy: str) -> Duration | None:
    if accuracy == "exact":
        return None
    match = _HOP.match(accuracy)
    if match is None:
        raise ValueError(f'"{accuracy}" is no accuracy; write "exact" or "hop(5m)"')
    hop = Duration(match.group(1))
    if hop <= 0:
        raise ValueError(f"a hop of {hop} does not move; it must be longer than 0")
    return hop
