"""The report's sections of figures: what was measured, against whom, where, and under which clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from mlflow_core.train.evaluation.evaluate import Evaluation
from mlflow_core.train.evaluation.metrics import greater_is_better
from mlflow_core.train.evaluation.slices import Slice
from mlflow_core.train.report import plots
from mlflow_core.train.report.contents import Report
from mlflow_core.train.report.drawing import colours_of, why_not_drawn
from mlflow_core.train.report.page import Cell, card, figure, interval_cell, section, signed, table, verdict

__all__ = ["clocks_section", "gate_section", "head_section", "scores_section", "slices_section"]


def head_section(report: Report) -> str:
    """The title, the question and the figures that matter most."""
    found = report.evaluation
    metric, first = found.metrics[0], found.models[0]
    score = found.score(metric)
    cards = [card(f"{metric} of {first}", f"{score.value:.4f}", f"95 %: {score.low:.4f} to {score.high:.4f}")]
    for other in found.models[1:3]:
        better = found.difference(metric, first, other)
        cards.append(
            card(
                f"better than {other} by",
                f"{better.value:+.4f}",
                f"95 %: {better.low:+.4f} to {better.high:+.4f}",
            )
        )
    if found.positives is not None:
        share = found.positives / found.rows
        cards.append(
            card("base rate in the test part", f"{share:.1%}", f"{found.positives:,} of {found.rows:,} rows")
        )
    if report.gate is not None:
        held = sum(check.passed for check in report.gate.checks)
        cards.append(
            card("gate", verdict(report.gate.passed), f"{held} of {len(report.gate.checks)} checks hold")
        )
    why = why_not_drawn()
    missing = f'<p class="note">This report has no plots: {escape(why)}.</p>' if why else ""
    lede = f'<p class="lede">{escape(report.question)}</p>'
    return f'<h1>{escape(report.title)}</h1>{lede}{missing}<div class="cards">{"".join(cards)}</div>'


def scores_section(report: Report, colours: Mapping[str, str]) -> str:
    """Every metric of every model, and the paired differences."""
    found = report.evaluation
    arrows = [f"{m} {'↑' if greater_is_better(m) else '↓'}" for m in found.metrics]
    rows = [
        [_named(model, colours), *(interval_cell(found.score(m, model)) for m in found.metrics)]
        for model in found.models
    ]
    parts: list[str] = [table(["model", *arrows], rows, numbers=range(1, len(arrows) + 1))]
    if len(found.models) > 1:
        parts.append("<h3>Paired differences: the first model against each other, above 0 is better</h3>")
        parts.append(_differences(found))
    return section("Scores on the test part", _unit_note(found), *parts)


def slices_section(report: Report, colours: Mapping[str, str]) -> str:
    """The first model on each value of each slicing column."""
    found = report.evaluation
    if not found.slices:
        return ""
    metric, first = found.metrics[0], found.models[0]
    overall, figures = found.score(metric).value, []
    for column, own in _by_column(found.slices).items():
        svg = plots.slices_plot(own, metric, overall, colours[first])
        figures.append(
            figure(svg, "Rows in brackets; hollow: too small to say much.", f"{metric} by {column}")
        )
    rows = [
        [one.column, Cell(f"{escape(one.value)}{' <small>small</small>' if one.small else ''}"), one.rows,
         one.positives if one.positives is not None else "–", *(interval_cell(one.metrics[m]) for m in found.metrics)]
        for one in found.slices
    ]  # fmt: skip
    head = ["column", "value", "rows", "positives", *found.metrics]
    more = table(head, rows, numbers=range(2, len(head)))
    return section(
        "Slices",
        f"The same model on parts of the test part. Intervals resample {found.unit}s.",
        f'<div class="pair">{"".join(figures)}</div>',
        f"<details><summary>All {len(rows)} slices</summary>{more}</details>",
    )


def clocks_section(report: Report) -> str:
    """The same pipeline under each clock."""
    found = report.clocks
    if found is None:
        return ""
    metric, colours = found.metrics[0], colours_of(found.models)
    scores = {model: found.score(metric, model) for model in found.models}
    svg = plots.interval_plot(scores, f"{metric} on the test part, 95 % interval", colours)
    rows = [
        [_named(model, colours), *(interval_cell(found.score(m, model)) for m in found.metrics)]
        for model in found.models
    ]
    return section(
        "What each clock says",
        "The same pipeline, trained and tested under each clock on the same rows. “event” uses every event by its own "
        "time, also those known only later: what it gains is leakage. “known” uses what was known. “served” uses "
        "what the online store would have held, and is what a deployed model can reach. “In service” is a model of another "
        "clock, fed what the online store would have held: what it would really reach.",
        figure(svg, _unit_note(found)),
        table(["clock", *found.metrics], rows, numbers=range(1, len(found.metrics) + 1)),
        f"<h3>Paired differences: {escape(found.models[0])} against each other clock, above 0 is better</h3>",
        _differences(found, "above", "below"),
    )


def gate_section(report: Report) -> str:
    """What the gate asked for and found."""
    if report.gate is None:
        return ""
    rows = [[check.name, verdict(check.passed), check.sentence] for check in report.gate.checks]
    note = "What the pipeline asks of a model before it is registered."
    return section("Gate", note, table(["asked", "", "found"], rows))


def _differences(found: Evaluation, better: str = "better", worse: str = "worse") -> Cell:
    first, rows = found.models[0], []
    for other in found.models[1:]:
        for metric in found.metrics:
            cells: list[object] = [f"{first} against {other}", metric]
            cells += [
                interval_cell(found.difference(metric, first, other, unit=unit), plus=True)
                for unit in found.draws
            ]
            rows.append([*cells, signed(found.difference(metric, first, other), better, worse)])
    head = ["models", "metric", *(f"difference (resampling {unit}s)" for unit in found.draws), ""]
    return table(head, rows, numbers=range(2, 2 + len(found.draws)))


def _by_column(slices: Sequence[Slice]) -> dict[str, list[Slice]]:
    found: dict[str, list[Slice]] = {}
    for one in slices:
        found.setdefault(one.column, []).append(one)
    return found


def _named(model: str, colours: Mapping[str, str]) -> Cell:
    return Cell(f'<span class="dot" style="background:{colours[model]}"></span>{escape(model)}')


def _unit_note(found: Evaluation) -> str:
    unit = f"whole days ({found.days} of them)" if found.unit == "day" else "rows"
    return (
        f"{found.rows:,} rows. 95 % intervals from {found.resamples:,} bootstrap resamples of {unit}, "
        "the same ones for all models."
    )
