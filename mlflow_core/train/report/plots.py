"""The report's figures of scores, slices and learning, each drawn from numbers that were computed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlflow_core.train.evaluation.bootstrap import Interval
from mlflow_core.train.evaluation.curves import Calibration
from mlflow_core.train.evaluation.importance import Importance
from mlflow_core.train.evaluation.metrics import Floats
from mlflow_core.train.evaluation.slices import Slice
from mlflow_core.train.report.drawing import INK, LINE, SOFT, drawn, shortened, why_not_drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "calibration_plot",
    "importance_plot",
    "interval_plot",
    "learning_plot",
    "roc_plot",
    "slices_plot",
    "why_not_drawn",
]


def roc_plot(curves: Mapping[str, tuple[Floats, Floats, float]], colours: Mapping[str, str]) -> str:
    """ROC curves of several models.

    Args:
        curves: False positive rates, true positive rates and AUC by model.
        colours: Colour by model.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=LINE, lw=1, ls=(0, (4, 3)))
        for name, (x, y, auc) in reversed(list(curves.items())):
            first = name == next(iter(curves))
            axes.plot(
                x,
                y,
                color=colours[name],
                lw=2.4 if first else 1.6,
                label=f"{shortened(name, 26)}  {auc:.3f}",
                solid_capstyle="round",
            )
        axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="false positive rate (share of negatives)")
        axes.set_ylabel("true positive rate (share of positives)")
        axes.set_aspect("equal", adjustable="box")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="lower right", title="AUC", alignment="left")

    return drawn(draw, 5.4, 5.0)


def calibration_plot(found: Calibration, colour: str) -> str:
    """A reliability diagram: observed share against mean prediction, with the bins' intervals."""

    def draw(axes: Axes) -> None:
        x = [one.predicted for one in found.bins]
        y = [one.observed for one in found.bins]
        top = min(1.0, max([*x, *(one.high for one in found.bins)]) * 1.08)
        axes.plot([0, top], [0, top], color=LINE, lw=1, ls=(0, (4, 3)))
        errors = [
            [one.observed - one.low for one in found.bins],
            [one.high - one.observed for one in found.bins],
        ]
        axes.errorbar(x, y, yerr=errors, color=colour, lw=1.6, elinewidth=1.3, marker="o", ms=5, capsize=0)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="mean predicted probability")
        axes.set_ylabel("observed share of positives")
        axes.set_aspect("equal", adjustable="box")

    return drawn(draw, 5.4, 5.0)


def learning_plot(
    history: Mapping[str, Sequence[float]], best: int, colour: str, *, unit: str = "round (trees)"
) -> str:
    """The validation metrics by round; the first metric is drawn, the kept round is marked.

    Args:
        history: Values by metric, one for each round or epoch.
        best: The one that was kept, from 0.
        colour: The model's.
        unit: What a step is called: ``round (trees)``, ``epoch``.
    """
    metric, values = next(iter(history.items()))

    def draw(axes: Axes) -> None:
        axes.plot(np.arange(1, len(values) + 1), values, color=colour, lw=2)
        axes.axvline(best + 1, color=SOFT, lw=1, ls=(0, (4, 3)))
        axes.plot([best + 1], [values[best]], "o", color=colour, ms=7, clip_on=False)
        axes.set(xlabel=unit, ylabel=f"{metric} on the validation part", xlim=(1, max(2, len(values))))

    return drawn(draw, 5.4, 3.6)


def importance_plot(found: Sequence[Importance], metric: str, colour: str, *, top: int = 16) -> str:
    """The features that matter most, by what shuffling them costs."""
    shown = list(found[:top])[::-1]

    def draw(axes: Axes) -> None:
        places = np.arange(len(shown))
        axes.barh(places, [one.permutation for one in shown], color=colour, height=0.62)
        axes.errorbar(
            [one.permutation for one in shown],
            places,
            xerr=[one.spread for one in shown],
            fmt="none",
            ecolor=SOFT,
            elinewidth=1,
        )
        axes.set_yticks(places, [shortened(one.feature) for one in shown])
        axes.set(xlabel=f"worse {metric} when shuffled")
        axes.grid(visible=False, axis="y")
        axes.axvline(0, color=LINE, lw=1)

    return drawn(draw, 5.4, 0.9 + 0.27 * max(4, len(shown)))


def slices_plot(slices: Sequence[Slice], metric: str, overall: float, colour: str) -> str:
    """A metric with its interval for each value of one column; small slices are hollow."""
    shown = sorted(
        (one for one in slices if np.isfinite(one.metrics[metric].value)), key=lambda one: one.rows
    )[-30:]

    def draw(axes: Axes) -> None:
        axes.axvline(overall, color=SOFT, lw=1, ls=(0, (4, 3)))
        for place, one in enumerate(shown):
            found = one.metrics[metric]
            axes.plot(
                [found.low, found.high], [place, place], color=colour, lw=2, alpha=0.45 if one.small else 0.9
            )
            axes.plot(
                [found.value], [place], "o", ms=6, mfc="none" if one.small else colour, mec=colour, mew=1.6
            )
        axes.set_yticks(
            np.arange(len(shown)), [f"{shortened(one.value, 24)}  ({one.rows:,})" for one in shown]
        )
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.set(xlabel=f"{metric}, 95 % interval; dashed: all rows")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(visible=False, axis="y")

    return drawn(draw, 5.4, 0.95 + 0.27 * max(3, len(shown)))


def interval_plot(found: Mapping[str, Interval], label: str, colours: Mapping[str, str]) -> str:
    """One figure with its interval per model, one below the other."""
    names = list(found)[::-1]

    def draw(axes: Axes) -> None:
        for place, name in enumerate(names):
            one = found[name]
            axes.plot([one.low, one.high], [place, place], color=colours[name], lw=3, solid_capstyle="round")
            axes.plot([one.value], [place], "o", ms=9, color=colours[name])
            axes.annotate(
                f"{one.value:.4f}",
                (one.value, place),
                xytext=(0, 10),
                textcoords="offset points",
                ha="center",
                color=INK,
            )
        axes.set_yticks(np.arange(len(names)), [shortened(name) for name in names])
        axes.set_ylim(-0.6, len(names) - 0.25)
        axes.set(xlabel=label)
        axes.grid(visible=False, axis="y")

    return drawn(draw, 10.4, 0.9 + 0.45 * max(2, len(names)))
