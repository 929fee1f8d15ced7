"""The report of a training run: one HTML file that needs nothing else, for whoever decides about the model.

It shows what was measured, with its intervals, whatever it says; it measures nothing itself beyond curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlflow_core.train import plots
from mlflow_core.train.curves import Importance, calibration, roc
from mlflow_core.train.evaluate import Evaluation, Slice
from mlflow_core.train.gate import GateResult
from mlflow_core.train.metrics import GREATER_IS_BETTER, Floats
from mlflow_core.train.model import Model
from mlflow_core.train.page import (
    Cell,
    card,
    figure,
    interval_cell,
    number,
    page,
    section,
    signed,
    table,
    verdict,
)

__all__ = ["PartFacts", "Report", "write_report"]


@dataclass(frozen=True)
class PartFacts:
    """One part of the dataset, or all of it.

    Args:
        name: ``train``, ``validate`` or ``test``.
        rows: Its rows.
        positives: Those whose label is 1; None for a regression.
        start: Its first query time, microseconds since epoch, UTC.
        end: Its last.
        left_out: Rows by the reason for which they were left out.
    """

    name: str
    rows: int
    positives: int | None
    start: int | None = None
    end: int | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What a report shows.

    Args:
        title: The model's name.
        question: One sentence: what it predicts, and when.
        model: The model.
        evaluation: Its figures and those of the models beside it, on the test part.
        y: The truth of the test part, (n,).
        predictions: Predictions of the test part by model, as evaluated.
        parts: The parts of the dataset.
        importance: What each feature is worth.
        importance_metric: The metric by which ``importance`` was measured.
        clocks: The same pipeline under several clocks, the deployed one first; None if only one was trained.
        gate: What the gate found.
        examples: A few rows to look at, with predictions and outcomes.
        facts: Facts of the run by name: identifiers, versions, durations.
    """

    title: str
    question: str
    model: Model
    evaluation: Evaluation
    y: Floats
    predictions: Mapping[str, Floats]
    parts: Sequence[PartFacts]
    importance: Sequence[Importance] = ()
    importance_metric: str = "auc"
    clocks: Evaluation | None = None
    gate: GateResult | None = None
    examples: pa.Table | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_report(report: Report, path: Path) -> Path:
    """Write the report as one self-contained HTML file.

    Args:
        report: What it shows.
        path: The file; its folder is made.

    Returns:
        The path; without matplotlib the page has everything but the plots, and says so.
    """
    colours = plots.colours_of(report.evaluation.models)
    body = "".join(
        (
            _head(report),
            _data(report),
            _scores(report, colours),
            _curves(report, colours),
            _learned(report, colours),
            _slices(report, colours),
            _clocks(report),
            _gate(report),
            _examples(report),
            _facts(report),
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(report.title, body), encoding="utf-8")
    return path


def _head(report: Report) -> str:
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
    why = plots.why_not_drawn()
    missing = f'<p class="note">This report has no plots: {escape(why)}.</p>' if why else ""
    lede = f'<p class="lede">{escape(report.question)}</p>'
    return f'<h1>{escape(report.title)}</h1>{lede}{missing}<div class="cards">{"".join(cards)}</div>'


def _data(report: Report) -> str:
    rows: list[list[object]] = []
    for part in report.parts:
        share = f"{part.positives / part.rows:.1%}" if part.positives is not None and part.rows else "–"
        out = ", ".join(f"{count:,} {reason}" for reason, count in part.left_out.items() if count)
        rows.append([part.name, part.rows, part.positives if part.positives is not None else "–", share,
                     _time(part.start), _time(part.end), out or "none"])  # fmt: skip
    kinds = [feature.kind for feature in report.model.preprocessing.features]
    note = (
        f"{len(kinds)} features ({kinds.count('number')} numbers, {kinds.count('bool')} booleans, "
        f"{kinds.count('category')} categories), label “{report.model.label}”. Parts are cut in query time; "
        "times are UTC."
    )
    head = ["part", "rows", "positives", "share", "first query", "last query", "left out"]
    return section("Data and split", note, table(head, rows, numbers=(1, 2, 3)))


def _scores(report: Report, colours: Mapping[str, str]) -> str:
    found = report.evaluation
    arrows = [f"{m} {'↑' if GREATER_IS_BETTER[m] else '↓'}" for m in found.metrics]
    rows = [
        [_named(model, colours), *(interval_cell(found.score(m, model)) for m in found.metrics)]
        for model in found.models
    ]
    parts: list[str] = [table(["model", *arrows], rows, numbers=range(1, len(arrows) + 1))]
    if len(found.models) > 1:
        parts.append("<h3>Paired differences: the first model against each other, above 0 is better</h3>")
        parts.append(_differences(found))
    return section("Scores on the test part", _unit_note(found), *parts)


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


def _curves(report: Report, colours: Mapping[str, str]) -> str:
    if report.model.task != "classification":
        return ""
    found, shown = report.evaluation, {}
    for model in found.models:
        x, y = roc(report.y, report.predictions[model])
        auc = found.score("auc", model).value if "auc" in found.metrics else float(np.trapezoid(y, x))
        shown[model] = (x, y, auc)
    first = found.models[0]
    reliable = calibration(report.y, report.predictions[first])
    caption = (
        f"{len(reliable.bins)} bins of equal size, 95 % intervals. Expected calibration error {reliable.error:.4f}; "
        f"slope {reliable.slope:.2f}, intercept {reliable.intercept:+.2f} (1 and 0 if calibrated)."
    )
    return section(
        "Ranking and calibration",
        "Left: how well positives are ranked above negatives. Right: whether a predicted probability is one.",
        '<div class="pair">',
        figure(plots.roc_plot(shown, colours), "Dashed: chance.", "ROC"),
        figure(plots.calibration_plot(reliable, colours[first]), caption, f"Calibration of {first}"),
        "</div>",
    )


def _learned(report: Report, colours: Mapping[str, str]) -> str:
    colour, shown = colours[report.evaluation.models[0]], []
    model = report.model
    if report.importance:
        caption = (
            "Mean over shuffles; thin lines are one standard deviation. Related columns share their worth."
        )
        shown.append(
            figure(
                plots.importance_plot(report.importance, report.importance_metric, colour),
                caption,
                "Importance",
            )
        )
    if model.history:
        metric, values = next(iter(model.history.items()))
        best = min(model.best_round, len(values) - 1)
        caption = f"Kept: round {best + 1}, {metric} {values[best]:.4f}."
        caption += " Trees after it were dropped." if best + 1 < len(values) else ""
        shown.append(figure(plots.learning_plot(model.history, best, colour), caption, "Learning"))
    if not shown:
        return ""
    rows = [[one.feature, one.permutation, one.spread, f"{one.gain:.2%}"] for one in report.importance]
    head = ["feature", f"loss of {report.importance_metric}", "spread", "share of gain"]
    more = (
        f"<details><summary>All {len(rows)} features</summary>{table(head, rows, numbers=(1, 2, 3))}</details>"
        if rows
        else ""
    )
    return section(
        "What the model uses",
        "Measured on a sample of the test part.",
        f'<div class="pair">{"".join(shown)}</div>',
        more,
    )


def _slices(report: Report, colours: Mapping[str, str]) -> str:
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


def _clocks(report: Report) -> str:
    found = report.clocks
    if found is None:
        return ""
    metric, colours = found.metrics[0], plots.colours_of(found.models)
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


def _gate(report: Report) -> str:
    if report.gate is None:
        return ""
    rows = [[check.name, verdict(check.passed), check.sentence] for check in report.gate.checks]
    note = "What the pipeline asks of a model before it is registered."
    return section("Gate", note, table(["asked", "", "found"], rows))


def _examples(report: Report) -> str:
    if report.examples is None or not report.examples.num_rows:
        return ""
    examples = report.examples
    numeric = [
        n
        for n, type_ in enumerate(examples.schema.types)
        if pa.types.is_integer(type_) or pa.types.is_floating(type_)
    ]
    rows = [[_shown(value) for value in row.values()] for row in examples.to_pylist()]
    note = "Rows of the test part, as the model saw them."
    return section("Example predictions", note, table(examples.column_names, rows, numbers=numeric))


def _facts(report: Report) -> str:
    rows: list[list[object]] = [
        [name, Cell(f"<code>{escape(str(value))}</code>")] for name, value in report.facts.items()
    ]
    settings = report.model.metadata.get("trainer", {})
    rows.append(
        ["trainer", Cell(f"<code>{escape(', '.join(f'{k}={v}' for k, v in settings.items()))}</code>")]
    )
    rows.append(["trees", report.model.rounds])
    rows += [["note", note] for note in report.model.notes]
    return section("The run", "What it takes to find or repeat it.", table(["", ""], rows))


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


def _time(moment: int | None) -> str:
    return "–" if moment is None else datetime.fromtimestamp(moment / 1e6, UTC).strftime("%Y-%m-%d %H:%M")


def _shown(value: object) -> object:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return number(value, 3) if isinstance(value, float) else value
