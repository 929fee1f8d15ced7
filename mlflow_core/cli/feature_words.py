"""What ``mlcore features show`` says of a declaration: one fact a line, as a person would tell it.

The same facts as data, for ``--json``, are the declaration's own fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any

from mlflow_core.spec import (
    DeltaSource,
    Every,
    FeatureView,
    IcebergSource,
    InRange,
    Named,
    NullRate,
    OnDemand,
    ParquetSource,
    Selection,
    Source,
)

__all__ = ["facts_text", "on_demand_facts", "view_facts"]

Fact = tuple[str, str]


def facts_text(facts: Iterator[Fact] | Mapping[str, Any], width: int) -> str:
    """Lay facts out, one a line, folded between words; those that say nothing are left out.

    Args:
        facts: What each is called, and what it says; a list is a list of names, a mapping names with types.
        width: Columns that a line may have.
    """
    told = facts.items() if isinstance(facts, Mapping) else facts
    return "\n".join(
        fill(f"{name}: {text}", width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for name, text in ((name, _text(value)) for name, value in told)
        if text
    )


def view_facts(view: FeatureView) -> Iterator[Fact]:
    """Yield what a feature view is made of, beyond its features."""
    yield from _about("view", view)
    if view.entity is not None:
        keys = "keys" if len(view.keys) > 1 else "key"
        yield "entity", f"{view.entity.name} ({keys} {', '.join(view.keys)})"
    yield "source", _source(view.source)
    yield "event time", view.source.event_time
    yield "known at", view.source.known_at or ""
    yield "availability", "" if view.availability is None else _availability(view.availability)
    yield "ttl", "" if view.ttl is None else f"latest values up to {view.ttl} old"
    for name, expression in view.columns.items():
        yield "column", f"{name} = {expression}"
    for check in view.checks:
        yield "check", _check(check)
    yield from _declared(view)


def on_demand_facts(one: OnDemand) -> Iterator[Fact]:
    """Yield what on-demand features are computed from, and by which function."""
    yield from _about("on demand", one)
    yield "function", one.import_path
    for given in one.inputs:
        if isinstance(given, Selection):
            yield "reads", f"{', '.join(given.features)} of {given.view.name}"
        else:
            yield "reads", f"all of {given.name}"
    yield "request", _text({name: str(kind) for name, kind in one.request.items()})
    yield from _declared(one)


def _about(kind: str, one: Named) -> Iterator[Fact]:
    yield kind, one.name
    yield "description", one.description


def _declared(one: Named) -> Iterator[Fact]:
    yield "owner", one.owner
    yield "tags", ", ".join(f"{name}={value}" for name, value in one.tags.items())
    yield "declared at", one.place or ""


def _source(source: Source) -> str:
    if isinstance(source, ParquetSource | DeltaSource):
        return f"{source.name} ({source.path})"
    if isinstance(source, IcebergSource):
        return f"{source.name} (table {source.table})"
    return f"{source.name} ({'a query' if source.table is None else f'table {source.table}'})"


def _availability(every: Every) -> str:
    usable = f"usable {every.delay} later" if every.delay else "usable at once"
    counted = f", counted from {every.anchor:%Y-%m-%dT%H:%MZ}" if every.anchor_us else ""
    return f"every {every.every}, {usable}{counted}"


def _check(check: NullRate | InRange) -> str:
    warns = ", else a warning" if check.severity == "warn" else ""
    if isinstance(check, NullRate):
        return f"nulls of {check.column} below {check.below:g}{warns}"
    if check.at_least is None:
        return f"{check.column} at most {check.at_most:,.12g}{warns}"
    if check.at_most is None:
        return f"{check.column} at least {check.at_least:,.12g}{warns}"
    return f"{check.column} from {check.at_least:,.12g} to {check.at_most:,.12g}{warns}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} ({kind})" for name, kind in value.items())
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return "" if value is None or value is False else str(value)
