"""``mlcore runs list``: runs by pipeline, state, params and figures, in the order of time or of a figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mlflow_core.cli.context import Invocation, invocation
from mlflow_core.cli.runs_words import (
    LOST,
    bounds_of_words,
    params_of_words,
    seconds,
    state_named,
    state_of,
)
from mlflow_core.errors import UsageError, nearest

if TYPE_CHECKING:
    from mlflow_core.metadata.records import Metric, Run

__all__ = ["list_runs"]

_RECENT: Final = 100
_ALL: Final = 2**31 - 1

StateOption = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="STATE",
        help="Only in this state: pending, running, succeeded, failed, crashed, cancelled or lost.",
    ),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=VALUE",
        help="Only with this value of a param, as runs show prints both; may be repeated.",
        show_default=False,
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="'NAME>VALUE'",
        help="Only with a metric within this bound: > >= < <= or =, in quotes; may be repeated.",
        show_default=False,
    ),
]
OrderOption = Annotated[
    str | None,
    typer.Option("--order-by", metavar="METRIC", help="Only with this metric, the greatest first."),
]


def list_runs(
    context: typer.Context,
    pipeline: Annotated[str | None, typer.Argument(help="Only this pipeline's runs.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
    state: StateOption = None,
    param: ParamOption = None,
    metric: MetricOption = None,
    order_by: OrderOption = None,
    ascending: Annotated[bool, typer.Option("--ascending", help="With --order-by: the least first.")] = False,
    offset: Annotated[int, typer.Option(help="Leave out so many of the first.", min=0)] = 0,
) -> None:
    """List runs, the newest first; a run's id begins with when it began.

    Example: mlcore runs list late_arrival --metric 'test.auc>0.7' --order-by test.auc
    """
    if ascending and order_by is None:
        raise UsageError(
            "counts only with --order-by",
            object="--ascending",
            expected="a metric to order by, e.g. --order-by test.log_loss --ascending",
        )
    call = invocation(context)
    params, bounds = params_of_words(param or ()), bounds_of_words(metric or ())
    asked = {
        "pipeline": pipeline,
        "params": params,
        "metrics": bounds,
        "order_by": order_by,
        "ascending": ascending,
    }
    found = _found(call, None if state is None else state_named(state), limit, offset, asked)
    figures = list(dict.fromkeys([*([order_by] if order_by else []), *(one.metric for one in bounds)]))
    if not found:
        _warn_of_names(call, pipeline, params, figures)
    _say(call, found, figures)


def _found(
    call: Invocation, state: str | None, limit: int, offset: int, asked: Mapping[str, Any]
) -> list[tuple[Run, str]]:
    """Return runs and what ``state_of`` says of each, once: a driver may end meanwhile."""
    if state not in ("running", LOST):
        runs = call.metadata.list_runs(state=state, limit=limit, offset=offset, **asked)
        return [(run, state_of(run)) for run in runs]
    # Which of them are lost no database knows; not many are recorded as running at one time.
    running = call.metadata.list_runs(state="running", limit=_ALL, **asked)
    told = [(run, state_of(run)) for run in running]
    return [(run, shown) for run, shown in told if shown == state][offset : offset + limit]


def _say(call: Invocation, found: Sequence[tuple[Run, str]], figures: Sequence[str]) -> None:
    latest = call.metadata.latest_metrics([run.id for run, _ in found])
    data, rows = [], []
    for run, shown in found:
        metrics = latest[run.id]
        wanted = {name: asdict(metrics[name]) for name in figures if name in metrics}
        data.append({**asdict(run), "lost": shown == LOST} | ({"metrics": wanted} if figures else {}))
        rows.append(
            (
                run.id,
                run.pipeline if run.kind == "train" else f"{run.pipeline} ({run.kind})",
                shown,
                seconds(run, state=shown),
                "\n".join(f"{name} {one['value']:.6g}" for name, one in wanted.items())
                if figures
                else _figure(metrics),
            )
        )
    call.out.table(data, ("run", "pipeline", "state", "took", "figure"), rows)


def _figure(metrics: Mapping[str, Metric]) -> str:
    """Show the first figure of the test part, or the first of all where there is none."""
    names = [name for name in metrics if name.startswith("test.")] or list(metrics)
    return (
        f"{names[0].removeprefix('test.').removeprefix('search.')} {metrics[names[0]].value:.4f}"
        if names
        else ""
    )


def _warn_of_names(
    call: Invocation, pipeline: str | None, params: Iterable[str], figures: Sequence[str]
) -> None:
    """Say which names no recent run has: an empty list alone would look like an answer."""
    from mlflow_core.telemetry.logs import get_logger

    recent = [run.id for run in call.metadata.list_runs(pipeline=pipeline, limit=_RECENT)]
    if not recent:
        return
    store = call.metadata
    for kind, names, of_runs in (
        ("param", params, store.params_of_runs),
        ("metric", figures, store.latest_metrics),
    ):
        known = {name for have in of_runs(recent).values() for name in have} if names else set()
        for name in names:
            if name not in known:
                get_logger("cli").warning(
                    'no run of the last %d has a %s "%s". %s', len(recent), kind, name, _meant(name, known)
                )


def _meant(name: str, known: Iterable[str]) -> str:
    longer = sorted((one for one in known if one.endswith(f".{name}")), key=len)
    return f'Did you mean "{longer[0]}"?' if longer else nearest(name, known)
