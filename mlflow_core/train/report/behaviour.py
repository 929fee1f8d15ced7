"""The report's sections about how predictions behave: calibration by task, decisions, and what the model uses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mlflow_core.train.evaluation.curves import (
    calibration,
    class_calibrations,
    confusion,
    coverages,
    interval_coverages,
    predicted_bins,
    roc,
)
from mlflow_core.train.evaluation.decisions import cost_curve, thresholds
from mlflow_core.train.evaluation.metrics import Floats, measure
from mlflow_core.train.report import plots, task_plots
from mlflow_core.train.report.contents import Report
from mlflow_core.train.report.page import figure, number, section, table

__all__ = ["behaviour_section", "decisions_section", "learned_section"]

_CLASSES_DRAWN = 7
_UNITS = {"xgboost": "round (trees)", "torch": "epoch"}


def behaviour_section(report: Report, colours: Mapping[str, str]) -> str:
    """How the predictions of the model's task relate to the truth; empty where a score says it all."""
    if report.truth.y.ndim != 1:
        return ""
    match report.truth.task:
        case "classification" | "anomaly":
            return _ranking_and_calibration(report, colours)
        case "multiclass":
            return _classes(report, colours)
        case "regression":
            return _quantity(report, colours)
        case "quantile":
            return _quantiles(report, colours)
        case _:
            return ""


def decisions_section(report: Report) -> str:
    """What thresholds name and what mistakes cost, for a classifier of two classes."""
    truth = report.truth
    if not truth.binary:
        return ""
    y, predictions = truth.y, _column(report, report.first)
    rows = [
        [f"{one.threshold:.3g}", f"{one.share:.1%}", f"{one.precision:.1%}", f"{one.recall:.1%}",
         f"{one.false_alarms:.1%}", f"{one.f1:.3f}"]
        for one in thresholds(y, predictions)
    ]  # fmt: skip
    head = ["threshold", "named", "precision", "recall", "false alarms", "F1"]
    parts = [f"<div>{table(head, rows, numbers=range(6))}</div>"]
    if truth.task == "classification" and ((predictions >= 0) & (predictions <= 1)).all():
        curves = [cost_curve(y, predictions, costs) for costs in report.costs]
        caption = (
            "One line for each pair of costs. Dot: least cost on these rows. Ring: the threshold that calibrated "
            "probabilities call for, false alarm / (false alarm + miss). Dashed: naming all rows or none, whichever is "
            "cheaper."
        )
        parts.insert(0, figure(task_plots.cost_plot(curves), caption, "Expected cost"))
    note = (
        "A row is named where its prediction reaches the threshold. Precision: the share of the named that are positive; "
        "recall: of the positives that are named; false alarms: of the negatives that are."
    )
    return section("Decisions", note, '<div class="pair">', *parts, "</div>")


def learned_section(report: Report, colours: Mapping[str, str]) -> str:
    """How the model learned, and which features it uses."""
    colour, shown, model = colours[report.first], [], report.model
    if report.importance:
        caption = (
            "Mean over shuffles; thin lines are one standard deviation. Related features share their worth."
        )
        svg = plots.importance_plot(report.importance, report.importance_metric, colour)
        shown.append(figure(svg, caption, "Importance"))
    if model.history:
        metric, values = next(iter(model.history.items()))
        best = len(values) - 1 if model.best is None else model.best
        step = _UNITS.get(model.kind, "step")
        caption = f"Kept: {step.partition(' ')[0]} {best + 1}, {metric} {values[best]:.4f}."
        caption += " What came after it was dropped." if best + 1 < len(values) else ""
        svg = plots.learning_plot(model.history, best, colour, unit=step)
        shown.append(figure(svg, caption, "Learning"))
    parts = [f'<div class="pair">{"".join(shown)}</div>'] if shown else []
    told = _contributions(report)
    if not parts and not told:
        return ""
    note = "Measured on a sample of the test part."
    return section("What the model uses", note, *parts, told, _importance_table(report))


def _ranking_and_calibration(report: Report, colours: Mapping[str, str]) -> str:
    found, shown, y = report.evaluation, {}, report.truth.y
    for model in found.models:
        predictions = _column(report, model)
        x, h = roc(y, predictions)
        auc = found.score("auc", model).value if "auc" in found.metrics else measure("auc", y, predictions)
        shown[model] = (x, h, auc)
    first = report.first
    drawn = [figure(plots.roc_plot(shown, colours), "Dashed: chance.", "ROC")]
    note = "How well positives are ranked above negatives."
    predictions = _column(report, first)
    if report.truth.task == "classification" and ((predictions >= 0) & (predictions <= 1)).all():
        reliable = calibration(y, predictions)
        caption = (
            f"{len(reliable.bins)} bins of equal size, 95 % intervals. Expected calibration error "
            f"{reliable.error:.4f}; slope {reliable.slope:.2f}, intercept {reliable.intercept:+.2f} (1 and 0 if "
            "calibrated)."
        )
        svg = plots.calibration_plot(reliable, colours[first])
        drawn.append(figure(svg, caption, f"Calibration of {first}"))
        note = f"Left: {note[0].lower()}{note[1:]} Right: whether a predicted probability is one."
    return section("Ranking and calibration", note, '<div class="pair">', *drawn, "</div>")


def _classes(report: Report, colours: Mapping[str, str]) -> str:
    truth, predictions = report.truth, np.asarray(report.predictions[report.first], dtype=np.float64)
    names = truth.classes or tuple(str(one) for one in range(predictions.shape[1]))
    counts, reliable = confusion(truth.y, predictions), class_calibrations(truth.y, predictions)
    common = np.argsort(-counts.sum(axis=1), kind="stable")[:_CLASSES_DRAWN]
    drawn = {names[one]: reliable[one] for one in sorted(common)}
    rows = []
    for one, name in enumerate(names):
        hits, true, said = counts[one, one], counts[one].sum(), counts[:, one].sum()
        auc = measure("auc", (truth.y == one).astype(np.float64), predictions[:, one])
        f1 = 2 * hits / max(true + said, 1)
        figures = (f"{f1:.3f}", number(auc, 3), f"{reliable[one].error:.4f}")
        rows.append([name, int(true), _share(hits, said), _share(hits, true), *figures])
    head = ["class", "rows", "precision", "recall", "F1", "AUC against the rest", "calibration error"]
    few = " of the most frequent classes" if len(names) > _CLASSES_DRAWN else ""
    svg = task_plots.confusion_plot(counts, names, colours[report.first])
    return section(
        "Classes",
        "Left: where the rows of each class went. Right: whether a class's probability is one.",
        '<div class="pair">',
        figure(svg, "Shares of the true class; the diagonal is right.", f"Confusion of {report.first}"),
        figure(task_plots.class_calibration_plot(drawn), f"Bins of equal size{few}.", "Calibration"),
        "</div>",
        table(head, rows, numbers=range(1, 7)),
    )


def _quantity(report: Report, colours: Mapping[str, str]) -> str:
    y, predictions = report.truth.y, _column(report, report.first)
    bins = predicted_bins(y, predictions)
    error = predictions - y
    rows = [
        [f"{level:.0%}", float(np.quantile(error, level))]
        for level in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    ]
    caption = f"{len(bins)} bins of equal size; dashed: where they would be equal. Bars: the middle 80 % of the truth."
    svg = task_plots.predicted_plot(bins, report.model.label, colours[report.first])
    return section(
        "Predictions and truth",
        "Whether rows with one prediction come out at it on average, and how far single rows stray.",
        '<div class="pair">',
        figure(svg, caption, f"Calibration of {report.first}"),
        f"<div><h3>Errors (prediction minus truth)</h3>{table(['quantile', 'error'], rows, numbers=(1,))}</div>",
        "</div>",
    )


def _quantiles(report: Report, colours: Mapping[str, str]) -> str:
    truth = report.truth
    predictions = np.asarray(report.predictions[report.first], dtype=np.float64)
    predictions = predictions[:, None] if predictions.ndim == 1 else predictions
    levels, intervals = (
        coverages(truth.y, predictions, truth.quantiles),
        interval_coverages(truth.y, predictions, truth.quantiles),
    )
    of_levels = [
        [f"{one.level:g}", f"{one.observed:.3f}", f"{one.low:.3f} to {one.high:.3f}"] for one in levels
    ]
    tables = table(["level", "observed", "95 % interval"], of_levels, numbers=(1, 2))
    if intervals:
        of_intervals = [
            [f"{one.lower:g} to {one.upper:g}", f"{one.upper - one.lower:.3g}", f"{one.observed:.3f}",
             f"{one.low:.3f} to {one.high:.3f}", one.width]
            for one in intervals
        ]  # fmt: skip
        head = ["between", "promised", "observed", "95 % interval", "mean width"]
        tables = type(tables)(tables + table(head, of_intervals, numbers=range(1, 5)))
    svg = task_plots.coverage_plot(levels, colours[report.first])
    caption = "On the dashed line, as many rows lie below a quantile as its level promises."
    return section(
        "Quantiles",
        "Whether the truth lies below each predicted quantile, and between two of them, as often as promised.",
        '<div class="pair">',
        figure(svg, caption, f"Coverage of {report.first}"),
        f"<div>{tables}</div>",
        "</div>",
    )


def _contributions(report: Report) -> str:
    found = report.contributions
    if found is None:
        return ""
    if len(found.outputs) > 1:
        caption = f"How much features move each output, on average. {found.told()}"
        return figure(task_plots.strength_plot(found), caption, "Contributions")
    drawn = "" if len(found.values) <= task_plots.MOST_DOTS else f", of {task_plots.MOST_DOTS} rows"
    caption = (
        f"A dot is what the feature did to one row's prediction{drawn}. Grey: missing, a category or a sequence. "
        f"{found.told()}"
    )
    return figure(task_plots.contribution_plot(found), caption, "Contributions")


def _importance_table(report: Report) -> str:
    """All features with every figure that there is."""
    if not report.importance:
        return ""
    strength = report.contributions.by_feature() if report.contributions is not None else {}
    head = ["feature", f"worse {report.importance_metric} by", "spread", "share of gain"]
    head += ["mean absolute contribution"] if strength else []
    rows: list[list[object]] = []
    for one in report.importance:
        gain = f"{one.gain:.2%}" if np.isfinite(one.gain) else "–"
        told = [strength[one.feature]] if one.feature in strength else [""] if strength else []
        rows.append([one.feature, one.permutation, one.spread, gain, *told])
    shown = table(head, rows, numbers=range(1, len(head)))
    return f"<details><summary>All {len(rows)} features</summary>{shown}</details>"


def _column(report: Report, model: str) -> Floats:
    """A model's predictions as one column."""
    values = np.asarray(report.predictions[model], dtype=np.float64)
    return values.reshape(len(values))


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"
