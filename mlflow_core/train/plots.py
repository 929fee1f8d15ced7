"""The report's figures, as SVG text that stands inside a page and takes its colours of ink from it.

Each function draws one figure from numbers that were computed elsewhere; without matplotlib, an extra, its text is
empty. A model has one colour in all figures of a report. Ink is drawn in marker colours that become CSS variables, so
that a page reads in light and dark.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_core.train.bootstrap import Interval
from mlflow_core.train.curves import Calibration, Importance
from mlflow_core.train.evaluate import Slice
from mlflow_core.train.metrics import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "calibration_plot",
    "colours_of",
    "importance_plot",
    "interval_plot",
    "learning_plot",
    "roc_plot",
    "slices_plot",
    "why_not_drawn",
]

_PALETTE = ("#3b76f6", "#f0803c", "#12a594", "#9a6cf0", "#e5577f", "#b7942a", "#8792a5")
_INK, _SOFT, _LINE = "#010203", "#020304", "#030405"
_VARIABLES = {_INK: "var(--ink)", _SOFT: "var(--soft)", _LINE: "var(--line)"}


def why_not_drawn() -> str | None:
    """Say what is missing for plots, and how to get it; None where they are drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return 'matplotlib is not installed. To get them: pip install "mlflow-core[report]"'
    return None


def colours_of(models: Sequence[str]) -> dict[str, str]:
    """One colour per model, in their order; the last is shared by all beyond the palette."""
    return {name: _PALETTE[min(n, len(_PALETTE) - 1)] for n, name in enumerate(models)}


def roc_plot(curves: Mapping[str, tuple[Floats, Floats, float]], colours: Mapping[str, str]) -> str:
    """ROC curves of several models.

    Args:
        curves: False positive rates, true positive rates and AUC by model.
        colours: Colour by model.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_LINE, lw=1, ls=(0, (4, 3)))
        for name, (x, y, auc) in reversed(list(curves.items())):
            first = name == next(iter(curves))
            axes.plot(
                x,
                y,
                color=colours[name],
                lw=2.4 if first else 1.6,
                label=f"{name}  {auc:.3f}",
                solid_capstyle="round",
            )
        axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="false positive rate (share of negatives)")
        axes.set_ylabel("true positive rate (share of positives)")
        axes.set_aspect("equal", adjustable="box")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="lower right", title="AUC", alignment="left")

    return _figure(draw, 5.4, 5.0)


def calibration_plot(found: Calibration, colour: str) -> str:
    """A reliability diagram: observed share against mean prediction, with the bins' intervals."""

    def draw(axes: Axes) -> None:
        x = [one.predicted for one in found.bins]
        y = [one.observed for one in found.bins]
        top = min(1.0, max([*x, *(one.high for one in found.bins)]) * 1.08)
        axes.plot([0, top], [0, top], color=_LINE, lw=1, ls=(0, (4, 3)))
        errors = [
            [one.observed - one.low for one in found.bins],
            [one.high - one.observed for one in found.bins],
        ]
        axes.errorbar(x, y, yerr=errors, color=colour, lw=1.6, elinewidth=1.3, marker="o", ms=5, capsize=0)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="mean predicted probability")
        axes.set_ylabel("observed share of positives")
        axes.set_aspect("equal", adjustable="box")

    return _figure(draw, 5.4, 5.0)


def learning_plot(history: Mapping[str, Sequence[float]], best: int, colour: str) -> str:
    """The validation metrics by round; the first metric is drawn, the kept round is marked."""
    metric, values = next(iter(history.items()))

    def draw(axes: Axes) -> None:
        axes.plot(np.arange(1, len(values) + 1), values, color=colour, lw=2)
        axes.axvline(best + 1, color=_SOFT, lw=1, ls=(0, (4, 3)))
        axes.plot([best + 1], [values[best]], "o", color=colour, ms=7)
        axes.set(
            xlabel="round (trees)", ylabel=f"{metric} on the validation part", xlim=(1, max(2, len(values)))
        )

    return _figure(draw, 5.4, 3.6)


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
            ecolor=_SOFT,
            elinewidth=1,
        )
        axes.set_yticks(places, [one.feature for one in shown])
        axes.set(xlabel=f"loss of {metric} when the column is shuffled")
        axes.grid(visible=False, axis="y")
        axes.axvline(0, color=_LINE, lw=1)

    return _figure(draw, 5.4, 0.9 + 0.27 * max(4, len(shown)))


def slices_plot(slices: Sequence[Slice], metric: str, overall: float, colour: str) -> str:
    """A metric with its interval for each value of one column; small slices are hollow."""
    shown = sorted(
        (one for one in slices if np.isfinite(one.metrics[metric].value)), key=lambda one: one.rows
    )[-30:]

    def draw(axes: Axes) -> None:
        axes.axvline(overall, color=_SOFT, lw=1, ls=(0, (4, 3)))
        for place, one in enumerate(shown):
            found = one.metrics[metric]
            axes.plot(
                [found.low, found.high], [place, place], color=colour, lw=2, alpha=0.45 if one.small else 0.9
            )
            axes.plot(
                [found.value], [place], "o", ms=6, mfc="none" if one.small else colour, mec=colour, mew=1.6
            )
        axes.set_yticks(np.arange(len(shown)), [f"{one.value}  ({one.rows:,})" for one in shown])
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.set(xlabel=f"{metric}, 95 % interval; dashed: all rows")
        axes.grid(visible=False, axis="y")

    return _figure(draw, 5.4, 0.95 + 0.27 * max(3, len(shown)))


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
                color=_INK,
            )
        axes.set_yticks(np.arange(len(names)), names)
        axes.set_ylim(-0.6, len(names) - 0.25)
        axes.set(xlabel=label)
        axes.grid(visible=False, axis="y")

    return _figure(draw, 10.4, 0.9 + 0.45 * max(2, len(names)))


def _figure(draw: Callable[[Axes], None], width: float, height: float) -> str:
    if why_not_drawn() is not None:
        return ""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue(), f"p{zlib.crc32(text.getvalue().encode()):08x}")


def _inline(svg: str, prefix: str) -> str:
    """Make a file's SVG fit into a page: no prologue, names of its own, the page's ink and typeface."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    body = re.sub(r"font: (?:[a-z]+ )?([\d.]+)px [^;\"]+", r"font: \1px var(--sans)", body)
    body = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img">', body, count=1)
    for marker, variable in _VARIABLES.items():
        body = body.replace(marker, variable)
    return body


_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _SOFT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelpad": 7,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 1.6,
}
