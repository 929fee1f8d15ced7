"""``mlcore features get``: one entity's features as a service would get them now, with status and time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_core.cli.context import invocation
from mlflow_core.cli.words import AtOption, Values, clock_of_call, values_of_words

if TYPE_CHECKING:
    from mlflow_core.online.answer import Answer

__all__ = ["answer_rows", "get"]


def get(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="A feature service.")],
    values: Values = None,
    at: AtOption = None,
    allow_registry_code: Annotated[
        bool, typer.Option("--allow-registry-code", help="Run on-demand code that is kept in the registry.")
    ] = False,
) -> None:
    """Get one entity's features from the online store.

    Example: mlcore features get delay_model --at 2013-11-15T12:30Z carrier=UA origin=EWR dest=ORD
    """
    from mlflow_core.cli.output import table
    from mlflow_core.serve.features import Features, make_importable
    from mlflow_core.serve.request import columns_of_text

    call = invocation(context)
    given = values_of_words(values)
    clock = clock_of_call(call, at=at)
    make_importable(call.root)
    features = Features.open(call.repo, clock, allow_registry_code=allow_registry_code)
    try:
        asked = features.service(service)
        # Several features of one name are told apart by their views, without being asked to.
        answer = features.answer(asked, columns_of_text(asked, given), full_feature_names=asked.short is None)
    finally:
        features.close()
    data = (asked.short or asked.full).compact.data(answer, times=True, types=True)
    columns = ("feature", "value", "status", "event time")
    call.result(data, table(columns, answer_rows(answer), width=call.out.width))


def answer_rows(answer: Answer) -> list[tuple[str, Any, str, str | None]]:
    """Return the first row of an answer as rows of a table: feature, value, status, event time."""
    from mlflow_core.config.times import format_time

    return [
        (
            name,
            _shown(values[0]),
            answer.statuses[name][0].value,
            None if (time := answer.event_times[name][0]) is None else format_time(time),
        )
        for name, values in answer.columns.items()
    ]


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return f"[{', '.join(str(_shown(one)) for one in value)}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.hex() if isinstance(value, bytes) else value
