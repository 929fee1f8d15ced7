"""The report of every task is one file that asks for nothing, escapes what it shows and draws what it says."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlflow_core.train.report import drawing, task_plots
from mlflow_core.train.report.report import write_report
from tests.train.report.conftest import Made
from tests.train.report.made_report import TRAINERS

COMMON = (
    "Data and split",
    "Scores",
    "What the model uses",
    "Slices",
    "Leaks and drift",
    "Gate",
    "Example",
    "The run",
)
OWN = {
    "binary": ("Ranking and calibration", "Decisions", "miss : false alarm", "What each clock says"),
    "multiclass": ("Classes", "true class", "likeliest class", "AUC against the rest"),
    "regression": ("Predictions and truth", "middle 80 %"),
    "quantile": ("Quantiles", "level of the predicted quantile", "0.1 to 0.9"),
    "ranking": ("ndcg@10", "whole days"),
    "survival": ("concordance",),
    "network": ("Ranking and calibration", "contribution to the prediction (probability)"),
    "estimator": ("Predictions and truth", "contribution to the prediction (units of amount)"),
}
# ROC, calibration, costs, clocks; confusion, calibration; ...: beside slices, importance, learning, contributions.
FIGURES = {"binary": 4, "multiclass": 2, "regression": 1, "quantile": 1, "ranking": 0, "survival": 0}
FIGURES |= {"network": 3, "estimator": 0}  # an estimator does not tell how it learned


@pytest.mark.parametrize("kind", TRAINERS)
def test_a_report_is_one_file_that_asks_for_nothing_and_escapes_what_it_shows(
    kind: str, made: Made, tmp_path: Path
) -> None:
    report, _ = made(kind)

    page = write_report(report, tmp_path / "out" / "report.html").read_text()

    assert not re.search(r'(?:src|href)="(?!#|data:image/png)|@import|url\((?!#)', page)
    assert "late &lt;b&gt;" in page
    assert "<b>late <b>" not in page
    assert "by &lt;gust&gt;." in page
    for heading in (*COMMON, *OWN[kind]):
        assert heading in page, heading
    assert page.count("<svg") == 4 + FIGURES[kind]
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "nan" not in re.sub(r"data:image/png;base64,[^\"]+", "", page).lower().replace("finance", "")
    assert write_report(report, tmp_path / "again.html").read_text() == page


def test_what_was_not_looked_at_is_left_out(made: Made, tmp_path: Path) -> None:
    report, _ = made("binary")
    bare = replace(
        report, contributions=None, findings=None, importance=(), clocks=None, gate=None, examples=None
    )

    page = write_report(bare, tmp_path / "bare.html").read_text()

    assert "Leaks and drift" not in page
    assert "SHAP" not in page
    assert "Nothing was noticed" in write_report(replace(bare, findings=()), tmp_path / "no.html").read_text()


def test_scores_that_are_no_probabilities_have_no_calibration_and_no_costs(
    made: Made, tmp_path: Path
) -> None:
    report, _ = made("binary")
    raw = {name: 10 * values - 3 for name, values in report.predictions.items()}

    page = write_report(replace(report, predictions=raw), tmp_path / "raw.html").read_text()

    assert "Expected cost" not in page
    assert "Calibration of" not in page
    assert "ROC" in page


def test_labels_alone_are_enough_where_the_metrics_need_no_more(made: Made, tmp_path: Path) -> None:
    report, _ = made("binary")
    alone = replace(report, y=np.asarray(report.truth.y))

    assert alone.truth.task == "classification"
    assert "Decisions" in write_report(alone, tmp_path / "alone.html").read_text()


def test_without_matplotlib_the_page_has_everything_but_plots_and_says_so(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, _ = made("binary")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    page = write_report(report, tmp_path / "plain.html").read_text()

    assert "<svg" not in page
    assert "This report has no plots: matplotlib is not installed" in page
    assert "(not drawn)" in page
    assert "Decisions" in page


def test_where_no_feature_has_a_place_among_values_there_is_no_scale_of_colours(made: Made) -> None:
    found = made("network")[0].contributions
    assert found is not None
    grey = replace(found, levels=np.full_like(found.levels, np.nan))

    assert "value" in task_plots.contribution_plot(found)
    assert "value" not in task_plots.contribution_plot(grey)


def test_long_names_lose_their_beginning() -> None:
    assert drawing.shortened("short") == "short"
    assert drawing.shortened("carrier_delay__dep_delay_mean_over_24h", 20) == "…delay_mean_over_24h"
