"""How a figure becomes SVG text that stands inside a page and takes its colours of ink from it.

Ink is drawn in marker colours that become CSS variables, so that a page reads in light and dark. Without matplotlib, an
extra, a figure's text is empty. A model has one colour in all figures of a report.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["INK", "LINE", "PALETTE", "SOFT", "colours_of", "drawn", "shortened", "why_not_drawn"]

PALETTE = ("#3b76f6", "#f0803c", "#12a594", "#9a6cf0", "#e5577f", "#b7942a", "#8792a5")
"""Colours of things that are told apart, readable on light and dark; the last one is for the rest."""

INK, SOFT, LINE = "#010203", "#020304", "#030405"
"""Markers: text, lesser text, lines; each becomes the page's own."""

_VARIABLES = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)"}


def why_not_drawn() -> str | None:
    """Say what is missing for plots, and how to get it; None where they are drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return 'matplotlib is not installed. To get them: pip install "mlflow-core[report]"'
    return None


def colours_of(models: Sequence[str]) -> dict[str, str]:
    """One colour per model, in their order; the last is shared by all beyond the palette."""
    return {name: PALETTE[min(n, len(PALETTE) - 1)] for n, name in enumerate(models)}


def shortened(name: str, longest: int = 34) -> str:
    """A name that fits beside an axis: its beginning is left out, since the end of a feature's full name tells more."""
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def drawn(draw: Callable[[Axes], None], width: float, height: float) -> str:
    """Draw one figure.

    Args:
        draw: Draws into its axes.
        width: Inches at 72 points of the page's own type.
        height: The same.

    Returns:
        The SVG; empty without matplotlib.
    """
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
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelpad": 7,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 1.6,
}
