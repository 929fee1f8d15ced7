"""What every test shares: reproducible hypothesis runs, and nothing written outside the test's own folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Read when torch or XGBoost is loaded, here and in what tests start: on a machine that others use too, threads that spin
# while they wait for each other take all its time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A failure prints its own reproduction; deadlines measure the machine, not the code.
settings.register_profile("repository", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("repository")


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the settings, credentials or Feast options of whoever runs it."""
    for name in list(os.environ):
        if name.startswith(("MLCORE_", "FEAST_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this repository."""
    return Path(__file__).resolve().parents[1]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what passing tests have to show: figures that they recorded under the name ``figures``."""
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            if name == "figures":
                terminalreporter.section(report.nodeid.rpartition("::")[2])
                terminalreporter.write_line(text)
