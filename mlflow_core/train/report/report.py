"""The report of a training run: one HTML file that needs nothing else, for whoever decides about the model.

It shows what was measured, with its intervals, whatever it says; it measures nothing itself beyond curves.
"""

from __future__ import annotations

from pathlib import Path

from mlflow_core.train.report.behaviour import behaviour_section, decisions_section, learned_section
from mlflow_core.train.report.contents import PartFacts, Report
from mlflow_core.train.report.drawing import colours_of
from mlflow_core.train.report.page import page
from mlflow_core.train.report.run import data_section, examples_section, facts_section, findings_section
from mlflow_core.train.report.scores import (
    clocks_section,
    gate_section,
    head_section,
    scores_section,
    slices_section,
)

__all__ = ["PartFacts", "Report", "write_report"]


def write_report(report: Report, path: Path) -> Path:
    """Write the report as one self-contained HTML file.

    Args:
        report: What it shows.
        path: The file; its folder is made.

    Returns:
        The path; without matplotlib the page has everything but the plots, and says so.
    """
    colours = colours_of(report.evaluation.models)
    body = "".join(
        (
            head_section(report),
            data_section(report),
            scores_section(report, colours),
            behaviour_section(report, colours),
            decisions_section(report),
            learned_section(report, colours),
            slices_section(report, colours),
            clocks_section(report),
            findings_section(report),
            gate_section(report),
            examples_section(report),
            facts_section(report),
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(report.title, body), encoding="utf-8")
    return path
