"""A driver that is killed at any moment: the next one goes on, repeats no finished trial, and finds the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlflow_core.train.search.result import SearchResult
from mlflow_core.train.search.space import Space
from tests.train.search.driver import SETTINGS, Journal, data_in
from tests.train.search.searched import outcomes, search, small_set


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    folder = tmp_path_factory.mktemp("undisturbed")
    return search(SETTINGS, small_set(folder / "data"), folder)


def _numbers(folder: Path) -> list[int]:
    journal = folder / "journal"
    return [int(line) for line in journal.read_text().split()] if journal.exists() else []


def _kill_after(folder: Path, trials: int, *, training: bool) -> None:
    driver = subprocess.Popen([sys.executable, "-m", "tests.train.search.driver", str(folder)])
    try:
        until = time.monotonic() + 200
        while len(_numbers(folder)) < trials and driver.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        while training and not list((folder / "work" / "trials").iterdir()) and driver.poll() is None:
            time.sleep(0.001)
    finally:
        if driver.poll() is None:
            os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    assert driver.returncode == -signal.SIGKILL


def test_a_killed_study_goes_on_without_repeating_a_finished_trial(
    tmp_path: Path, undisturbed: SearchResult
) -> None:
    small_set(tmp_path / "data")

    _kill_after(tmp_path, trials=2, training=True)
    _kill_after(tmp_path, trials=4, training=False)
    before = _numbers(tmp_path)
    result = search(SETTINGS, data_in(tmp_path), tmp_path, recorder=Journal(tmp_path / "journal"))

    assert 4 <= len(before) < SETTINGS.trials
    numbers = _numbers(tmp_path)
    assert sorted(set(numbers)) == list(range(SETTINGS.trials))
    assert len(numbers) <= SETTINGS.trials + 2  # at most the one that was told while the driver was killed
    assert outcomes(result) == outcomes(undisturbed)
    attempts = {trial.number: trial.attempts for trial in result.trials}
    assert max(attempts.values()) > 1  # what ran when the driver was killed was tried again
    first = set(before[:-1])
    assert all(attempts[number] == 1 or number in (before[1] + 1, before[2] + 1) for number in first)
    assert not list((tmp_path / "work" / "trials").iterdir())


def test_a_driver_that_dies_while_it_proposes_changes_no_proposal(
    tmp_path: Path, undisturbed: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, suggest = small_set(tmp_path / "data"), Space.suggest

    class Died(BaseException):
        pass

    for moment in range(4):  # before the first setting, after it, after the second, and at a later trial

        def dying(
            self: Space, trial: Any, before: Callable[[int], None], moment: int = moment
        ) -> dict[str, Any]:
            def checked(place: int) -> None:
                if trial.number == 2 * moment and place == moment % 3 + 1:
                    raise Died
                before(place)

            return suggest(self, trial, checked)

        with monkeypatch.context() as patch, pytest.raises(Died):
            patch.setattr(Space, "suggest", dying)
            search(SETTINGS, data, tmp_path)

    assert outcomes(search(SETTINGS, data, tmp_path)) == outcomes(undisturbed)
