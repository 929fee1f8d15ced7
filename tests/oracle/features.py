"""The naive truth of features: for each entity row, a plain loop over all events, in exact arithmetic.

Written to be read beside the rules of time, events, windows and aggregates, one function a rule. It shares no
code with the package beyond the declarations. Values are Python's; times are microseconds since epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pyarrow as pa

from mlflow_core.spec import FeatureView, Function, WindowColumn

TIMES = ("t", "known", "made")


def columns_of(event):
    """The view's expressions, said again in Python."""
    return {**event, "g": None if missing(event["f32"]) else event["f32"] * 2}


CONDITIONS = {
    None: lambda e: True,
    "f > 0": lambda e: not missing(e["f"]) and e["f"] > 0,
    "b": lambda e: e["b"] is True,
    "s <> 'a' AND i IS NOT NULL": lambda e: e["s"] is not None and e["s"] != "a" and e["i"] is not None,
}


@dataclass(frozen=True)
class Truth:
    """The exact value, and how far from it an answer may be (None: not at all)."""

    value: Any
    tolerance: Fraction | None = None


class Oracle:
    """All events of a source, asked one entity row at a time."""

    def __init__(self, view: FeatureView, events: pa.Table, clock: str) -> None:
        self.view, self.clock = view, clock
        for name in TIMES:
            column = events[name].cast(pa.int64())
            events = events.set_column(events.column_names.index(name), name, column)
        self.events = [{**columns_of(e), "row": row} for row, e in enumerate(events.to_pylist())]

    def answer(self, key: Sequence[Any], t: int) -> dict[str, Truth]:
        T = self.evaluation_time(t)
        seen = [] if any(part is None for part in key) else self.counting(key, T)
        truths = {name: self.latest(seen, name, t) for name in self.view.latest}
        asked = {}  # functions of one column and window share the list of its values
        for window in self.view.windows:
            place = (window.over, window.offset, window.hop, window.boundary, window.where, window.column)
            if place not in asked:
                asked[place] = self.values(seen, T, window)
            values = asked[place]
            truths[window.name] = (
                Truth(len(values)) if window.column == "*" else aggregated(window.function, values)
            )
        return truths

    def values(self, seen, T: int, window: WindowColumn) -> list[Any]:
        """What a window's events hold, in event order; 1 for each where rows are counted."""
        inside = [e for e in seen if in_window(e["t"], T, window) and CONDITIONS[window.where](e)]
        if window.column == "*":
            return [1] * len(inside)
        inside = sorted((e for e in inside if not missing(e[window.column])), key=self.order)
        return [e[window.column] for e in inside]

    def evaluation_time(self, t: int) -> int:
        if self.clock != "served":
            return t
        every, delay, anchor = (
            int(x) for x in (self.availability.every, self.availability.delay, self.availability.anchor_us)
        )
        n = (t - delay - anchor) // every
        return anchor + n * every

    @property
    def availability(self):
        return self.view.availability

    def known(self, e) -> int:
        known_at = e[self.view.source.known_at] if self.view.source.known_at else None
        return e["t"] if known_at is None else max(known_at, e["t"])

    def created(self, e) -> int:
        created = e[self.view.source.created] if self.view.source.created else None
        return self.known(e) if created is None else created

    def order(self, e):
        return (e["t"], self.created(e), e["row"])

    def visible(self, e, T: int) -> bool:
        if e["t"] is None:
            return False  # what never happened is never seen
        if self.clock == "event":
            return e["t"] <= T
        if self.clock == "known":
            return e["t"] <= T and self.known(e) <= T
        return e["t"] <= T and self.known(e) <= T + int(self.availability.delay)

    def counting(self, key, T: int):
        """The events that count for a key: of each id its greatest visible version, unless that is a delete."""
        source = self.view.source
        greatest, alone = {}, []
        for e in self.events:
            if not self.visible(e, T):
                continue
            identity = e[source.event_id] if source.event_id else None
            if identity is None:
                alone.append(e)
                continue
            other = greatest.get(identity)
            if other is None or (self.created(e), e["row"]) > (self.created(other), other["row"]):
                greatest[identity] = e
        events = [*alone, *greatest.values()]
        if source.deleted:
            events = [e for e in events if e[source.deleted] is not True]
        return [e for e in events if tuple(e[part] for part in self.view.keys) == tuple(key)]

    def latest(self, seen, name: str, t: int) -> Truth:
        if not seen:
            return Truth(None)
        newest = max(seen, key=self.order)
        if self.view.ttl is not None and t - newest["t"] > int(self.view.ttl):
            return Truth(None)
        return Truth(None if missing(newest[name]) else newest[name])


def missing(value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def in_window(t_e: int, T: int, window: WindowColumn) -> bool:
    end = T - int(window.offset)
    start = end - int(window.over)
    if window.hop is not None:
        start = start // int(window.hop) * int(window.hop)
    return start < t_e <= end if window.boundary == "(]" else start <= t_e < end


def aggregated(function: Function, values: list[Any]) -> Truth:
    """One aggregate of values that are not null, in event order."""
    name, argument = function
    if name == "count":
        return Truth(len(values))
    if name in ("count_distinct", "approx_count_distinct"):
        return Truth(len(set(values)))
    if not values:
        return Truth(None)
    if name in ("approx_quantile", "top_k"):
        return sketched(name, argument, values)
    if name in ("first", "last"):
        if argument is None:
            return Truth(values[0] if name == "first" else values[-1])
        return Truth(values[: int(argument)] if name == "first" else values[-int(argument) :])
    if name in ("min", "max"):
        return Truth(min(values) if name == "min" else max(values))
    if name == "sum" and not isinstance(values[0], float):
        return Truth(sum(int(v) for v in values))
    if name == "quantile":
        return quantile([float(v) for v in values], float(argument))
    return moments(name, values)


def sketched(name: str, argument: Any, values: list[Any]) -> Truth:
    """Sketches are exact of as few values as there are here."""
    if name == "top_k":
        return Truth(sorted(set(values), key=lambda value: (-values.count(value), value))[:argument])
    return Truth(float(sorted(values)[max(math.ceil(float(argument) * len(values)) - 1, 0)]))


def moments(name: str, values: list[Any]) -> Truth:
    n = len(values)
    if any(isinstance(v, float) and math.isinf(v) for v in values):
        if name in ("var", "std"):
            return Truth(None)
        infinities = {v for v in values if math.isinf(v)}
        return Truth(infinities.pop()) if len(infinities) == 1 else Truth(None)
    exact = [Fraction(v) for v in values]
    total, size = sum(exact), sum(abs(v) for v in exact)
    slack = Fraction(1, 10**9)
    if name == "sum":
        return Truth(total, slack * size)
    if name == "mean":
        return Truth(total / n, slack * size / n)
    if n < 2:
        return Truth(None)
    mean = total / n
    variance = sum((v - mean) ** 2 for v in exact) / (n - 1)
    return Truth(variance, slack * sum(v * v for v in exact) / (n - 1))


def quantile(values: list[float], q: float) -> Truth:
    values = sorted(values)
    place = (len(values) - 1) * q
    below = math.floor(place)
    fraction = place - below
    low, high = values[below], values[min(below + 1, len(values) - 1)]
    if fraction == 0 or low == high:
        return Truth(low)
    if math.isinf(low) or math.isinf(high):
        value = low + (high - low) * fraction
        return Truth(None if math.isnan(value) else value)
    value = Fraction(low) + (Fraction(high) - Fraction(low)) * Fraction(fraction)
    return Truth(value, Fraction(1, 10**12) * max(abs(Fraction(low)), abs(Fraction(high))))


LARGEST = Fraction(1.7976931348623157e308)


def agrees(truth: Truth, answer: Any, *, squared: bool = False) -> bool:
    """Whether an answer is right; ``squared`` for a standard deviation, whose truth is the variance."""
    if truth.value is None or answer is None:
        return truth.value is None and answer is None
    if truth.tolerance is None:
        return type(truth.value) is type(answer) and truth.value == answer
    if not isinstance(answer, float) or math.isnan(answer):
        return False
    if math.isinf(answer):  # only right where the true value is beyond float64
        least = LARGEST**2 if squared else LARGEST
        return (truth.value if answer > 0 else -truth.value) + truth.tolerance >= least
    given = Fraction(answer) ** 2 if squared else Fraction(answer)
    return abs(given - truth.value) <= truth.tolerance
