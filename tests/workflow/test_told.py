"""What a step tells while it works: when its figures are written, and what becomes of them if it fails."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing, contextmanager
from functools import partial

import pytest

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import FixedClock, Principal
from mlflow_core.errors import MetadataError, StepFailed, WorkflowError
from mlflow_core.metadata import MetadataStore, Metric
from mlflow_core.telemetry.progress import SilentProgress
from mlflow_core.workflow.journal import Journal


@pytest.fixture
def metadata(tmp_path, monkeypatch):
    """A store of which nothing is written by the clock."""
    with MetadataStore(f"sqlite:///{tmp_path / 'm.sqlite'}", FixedClock(0), Principal("ada", "os")) as store:
        monkeypatch.setattr(store, "metric_writer", partial(store.metric_writer, delay_s=600.0))
        yield store


@pytest.fixture
def journal(metadata, tmp_path):
    run_id = metadata.create_run("p").id
    return Journal(metadata, ArtifactStore(str(tmp_path / "artifacts")), run_id, SilentProgress())


@contextmanager
def refusing_metrics(folder):
    """Let the database refuse every new metric."""
    with closing(sqlite3.connect(folder / "m.sqlite", isolation_level=None)) as raw:
        raw.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON mlcore_metrics BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        yield
        raw.execute("DROP TRIGGER refuse")


def rounds_of(metadata, journal, name):
    return [one.step for one in metadata.get_metrics(journal.run_id, name)]


def tell_rounds(told, rounds=3):
    for number in range(rounds):
        told.metrics({"auc": number / 10}, step=number)


def test_rounds_are_written_together_with_the_final_figures_or_when_the_step_ends(metadata, journal):
    with journal.whole(), journal.attempt("fit") as attempt:
        tell_rounds(attempt.told.prefixed("first."))
        tell_rounds(attempt.told.prefixed("second."))
        assert metadata.get_metrics(journal.run_id) == []
        attempt.told.intervals([Metric("score", 0.7, 0, 0.6, 0.8)])
        assert rounds_of(metadata, journal, "first.auc") == rounds_of(metadata, journal, "second.auc")
        assert rounds_of(metadata, journal, "first.auc") == [0, 1, 2]
        assert rounds_of(metadata, journal, "score") == [0]
        tell_rounds(attempt.told, rounds=2)
    assert rounds_of(metadata, journal, "auc") == [0, 1]
    assert metadata.get_run(journal.run_id).state == "succeeded"


def test_a_record_that_is_kept_says_nothing_that_is_not_written(metadata, journal):
    with journal.whole(), journal.attempt("fit") as attempt:
        tell_rounds(attempt.told)
        attempt.told.record("value", "fit")
        assert rounds_of(metadata, journal, "auc") == [0, 1, 2]


@pytest.mark.parametrize("error", [StepFailed("ValueError: no"), KeyboardInterrupt(), MemoryError()])
def test_what_a_step_told_before_it_failed_is_written(metadata, journal, error):
    with pytest.raises(type(error)), journal.whole(), journal.attempt("fit") as attempt:
        tell_rounds(attempt.told)
        raise error
    assert rounds_of(metadata, journal, "auc") == [0, 1, 2]


def test_a_step_whose_figures_cannot_be_written_fails(metadata, journal, tmp_path):
    with (
        pytest.raises(MetadataError, match="full"),
        journal.whole(),
        refusing_metrics(tmp_path),
        journal.attempt("fit") as attempt,
    ):
        tell_rounds(attempt.told)
    assert [one.state.value for one in metadata.list_steps(journal.run_id)] == ["failed"]
    run = metadata.get_run(journal.run_id)
    assert (run.state, "full" in run.error) == ("failed", True)


def test_why_a_step_failed_is_not_hidden_by_figures_that_cannot_be_written(
    metadata, journal, tmp_path, caplog
):
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(StepFailed, match="ValueError: no"),
        journal.whole(),
        refusing_metrics(tmp_path),
        journal.attempt("fit") as attempt,
    ):
        tell_rounds(attempt.told)
        raise StepFailed("ValueError: no")
    assert "ValueError: no" in metadata.get_run(journal.run_id).error
    assert "the last figures of step fit were not written" in caplog.text


def test_a_driver_that_lost_its_lease_writes_no_figures_that_waited(metadata, journal):
    with (
        pytest.raises(WorkflowError, match="stopped"),
        journal.whole() as hold,
        journal.attempt("fit") as attempt,
    ):
        tell_rounds(attempt.told)
        hold.stop("lost")
        raise WorkflowError("stopped")
    assert metadata.get_metrics(journal.run_id) == []


def test_an_error_whose_text_is_not_utf_8_ends_its_run_as_any_other(metadata, journal):
    with pytest.raises(StepFailed), journal.whole(), journal.attempt("fit"):
        raise StepFailed("there is no file Zo\udceb\0.csv")

    run = metadata.get_run(journal.run_id)
    assert (run.state, run.error) == ("failed", "there is no file Zo\\udceb\\0.csv")
    assert metadata.list_steps(journal.run_id)[0].error == run.error
