"""Each report is made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from mlflow_core.train.data.training_set import TrainingData
from mlflow_core.train.report.contents import Report
from tests.train.report.made_report import report_of

Made = Callable[[str], tuple[Report, TrainingData]]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The report of a kind of task, and its data."""
    return cache(lambda kind: report_of(kind, tmp_path_factory.mktemp(kind)))
