"""The report's figures that only some tasks have: costs, classes, quantiles, quantities, contributions of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlflow_core.train.evaluation.contributions import Contributions
from mlflow_core.train.evaluation.curves import Calibration, Coverage, PredictedBin
from mlflow_core.train.evaluation.decisions import CostCurve
from mlflow_core.train.report.drawing import INK, LINE, PALETTE, SOFT, drawn, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "MOST_DOTS",
    "class_calibration_plot",
    "confusion_plot",
    "contribution_plot",
    "cost_plot",
    "coverage_plot",
    "predicted_plot",
    "strength_plot",
]

MOST_DOTS = 400
"""Rows whose contributions are drawn, of more."""

_LOW_TO_HIGH = ("#3b76f6", "#a46be0", "#e5577f")


def cost_plot(curves: Sequence[CostCurve]) -> str:
    """The expected cost over thresholds, as a share of what acting blindly costs; one line for each pair of costs."""

    def draw(axes: Axes) -> None:
        axes.axhline(1, color=SOFT, lw=1, ls=(0, (4, 3)))
        for curve, colour in zip(curves, PALETTE, strict=False):
            blind = curve.blind_cost or 1.0
            name = f"{curve.costs.miss:g} : {curve.costs.false_alarm:g}"
            axes.plot(curve.thresholds, curve.cost / blind, color=colour, lw=2, label=name)
            axes.plot([curve.best], [curve.best_cost / blind], "o", color=colour, ms=7, clip_on=False)
            axes.plot(
                [curve.costs.threshold],
                [curve.calibrated_cost / blind],
                "o",
                mfc="none",
                mec=colour,
                mew=1.6,
                ms=11,
                clip_on=False,
            )
        axes.set(xlim=(0, 1), ylim=(0, 1.6), xlabel="threshold: named from this prediction on")
        axes.set_ylabel("cost, as a share of the cost without a model")
        axes.legend(title="miss : false alarm", loc="best", alignment="left")

    return drawn(draw, 5.4, 4.4)


def coverage_plot(found: Sequence[Coverage], colour: str) -> str:
    """The observed share of rows at or below each predicted quantile, against its level."""

    def draw(axes: Axes) -> None:
        x, y = [one.level for one in found], [one.observed for one in found]
        errors = [[one.observed - one.low for one in found], [one.high - one.observed for one in found]]
        axes.plot([0, 1], [0, 1], color=LINE, lw=1, ls=(0, (4, 3)))
        axes.errorbar(x, y, yerr=errors, color=colour, lw=1.6, elinewidth=1.6, marker="o", ms=6, capsize=0)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="level of the predicted quantile")
        axes.set_ylabel("observed share of rows at or below it")
        axes.set_aspect("equal", adjustable="box")

    return drawn(draw, 5.4, 5.0)


def confusion_plot(counts: NDArray[np.int64], names: Sequence[str], colour: str) -> str:
    """Where the rows of each true class went, as shares of that class.

    Args:
        counts: Rows by true class and likeliest class, (classes, classes).
        names: The classes.
        colour: Of a share of 1.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes) -> None:
        from matplotlib.colors import to_rgb

        red, green, blue = to_rgb(colour)
        shades = np.empty((*shares.shape, 4))
        shades[..., :3], shades[..., 3] = (red, green, blue), 0.06 + 0.94 * shares
        axes.imshow(shades, aspect="auto")
        size = 9.5 if len(names) <= 9 else 7.5
        for (row, column), share in np.ndenumerate(shares if len(names) <= 14 else np.empty((0, 0))):
            ink, told = "#ffffff" if share > 0.65 else INK, f"{share:.0%}" if share >= 0.005 else ""
            axes.text(column, row, told, ha="center", va="center", color=ink, fontsize=size)
        places, labels = np.arange(len(names)), [shortened(name, 16) for name in names]
        axes.set_xticks(places, labels)
        if max(map(len, labels)) > 4 and len(names) > 4:
            for one in axes.get_xticklabels():
                one.set(rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, labels)
        axes.set(xlabel="likeliest class", ylabel="true class")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(labelcolor=INK)

    side = 1.4 + 0.62 * min(max(len(names), 4), 9)
    return drawn(draw, 5.4, min(5.4, side))


def class_calibration_plot(found: Mapping[str, Calibration]) -> str:
    """Reliability of each class's probability: observed share against mean prediction.

    Args:
        found: Calibration by class; the first seven are drawn.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=LINE, lw=1, ls=(0, (4, 3)))
        for (name, one), colour in zip(found.items(), PALETTE, strict=False):
            x, y = [each.predicted for each in one.bins], [each.observed for each in one.bins]
            axes.plot(x, y, color=colour, lw=1.6, marker="o", ms=4, label=shortened(name, 20))
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean predicted probability of the class")
        axes.set_ylabel("observed share of the class")
        axes.set_aspect("equal", adjustable="box")
        axes.legend(loc="upper left", title="class", alignment="left")

    return drawn(draw, 5.4, 5.0)


def predicted_plot(found: Sequence[PredictedBin], label: str, colour: str) -> str:
    """Mean truth against mean prediction by bin, with the middle 80 % of the truth."""

    def draw(axes: Axes) -> None:
        x, y = [one.predicted for one in found], [one.observed for one in found]
        low, high = [one.low for one in found], [one.high for one in found]
        ends = min(*x, *y), max(*x, *y)
        axes.plot(ends, ends, color=SOFT, lw=1, ls=(0, (4, 3)))
        axes.vlines(x, low, high, color=colour, lw=5, alpha=0.25)
        axes.plot(x, y, color=colour, lw=1.8, marker="o", ms=5)
        axes.set(xlabel=f"mean prediction of {shortened(label)}", ylabel="truth: mean, and middle 80 %")

    return drawn(draw, 5.4, 4.6)


def strength_plot(found: Contributions, *, top: int = 16) -> str:
    """The mean absolute contribution of each feature, stacked by output."""
    order, strength = found.order()[:top][::-1], found.strength()

    def draw(axes: Axes) -> None:
        places, left = np.arange(len(order)), np.zeros(len(order))
        shown = min(len(found.outputs), len(PALETTE))
        for output in range(shown):
            rest = slice(output, None) if output == shown - 1 else slice(output, output + 1)
            width = strength[rest][:, order].sum(axis=0)
            several = len(found.outputs) > shown and output == shown - 1
            name = "others" if several else shortened(found.outputs[output], 20)
            axes.barh(places, width, left=left, color=PALETTE[output], height=0.62, label=name)
            left += width
        axes.set_yticks(places, [shortened(found.features[one]) for one in order])
        axes.set(xlabel=f"mean absolute contribution ({found.unit})")
        axes.grid(visible=False, axis="y")
        if len(found.outputs) > 1:
            axes.legend(loc="lower right", title="output", alignment="left")

    return drawn(draw, 10.4, 1.0 + 0.32 * max(5, len(order)))


def contribution_plot(found: Contributions, *, top: int = 16, seed: int = 0) -> str:
    """What each feature did to each prediction: a dot a row, coloured by the feature's own value there.

    Args:
        found: Contributions with one output.
        top: How many features, the strongest.
        seed: Which rows are drawn where there are many, and how dots are spread.
    """
    order = found.order()[:top][::-1]
    random = np.random.default_rng(seed)
    rows = random.permutation(len(found.values))[:MOST_DOTS]

    def draw(axes: Axes) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes.axvline(0, color=SOFT, lw=1)
        colours = LinearSegmentedColormap.from_list("levels", _LOW_TO_HIGH)
        for place, feature in enumerate(order):
            x, level = found.values[rows, 0, feature], found.levels[rows, feature]
            y = place + _spread(x, random)
            told = np.isfinite(level)
            axes.scatter(x[~told], y[~told], s=9, color=PALETTE[-1], linewidths=0, rasterized=True)
            dots = axes.scatter(
                x[told],
                y[told],
                s=9,
                c=level[told],
                cmap=colours,
                vmin=0,
                vmax=1,
                linewidths=0,
                rasterized=True,
            )
        if np.isfinite(found.levels[rows][:, order]).any():
            bar = axes.figure.colorbar(dots, ax=axes, fraction=0.025, pad=0.02, ticks=[0, 1])
            bar.ax.set_yticklabels(["low", "high"], color=SOFT)
            bar.set_label("the feature's value", labelpad=-14, color=SOFT)
            bar.outline.set_visible(False)
        axes.set_yticks(np.arange(len(order)), [shortened(found.features[one]) for one in order])
        axes.set_ylim(-0.6, len(order) - 0.4)
        axes.set(xlabel=f"contribution to the prediction ({found.unit})")
        axes.grid(visible=False, axis="y")

    return drawn(draw, 10.4, 1.0 + 0.34 * max(4, len(order)))


def _spread(x: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Offsets that make a crowd wide: each dot by how many are near it."""
    if x.max() == x.min():
        return random.uniform(-0.05, 0.05, len(x))
    bins = np.floor((x - x.min()) / (x.max() - x.min()) * 60).astype(int)
    crowd = np.bincount(bins)[bins] / np.bincount(bins).max()
    offsets: NDArray[np.float64] = random.uniform(-0.36, 0.36, len(x)) * np.sqrt(crowd)
    return offsets
