"""``mlcore runs list`` and ``show``: runs by what they were given and reached, and drivers that are gone told at once."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from mlflow_core.cli.boundary import run as mlcore
from mlflow_core.cli.runs_words import param_text, params_of_words

HOUR_US = 3_600_000_000


@pytest.fixture
def listed(root, capsys):
    """Lists runs; gives the exit code and what was printed, as values where it worked with ``--json``."""

    def call(*words, to=("runs", "list")):
        code = mlcore(["--root", str(root), *to, *words])
        told = capsys.readouterr()
        if "--json" in words and code == 0:
            return code, json.loads(told.out)
        return code, told.out + told.err

    return call


@pytest.fixture
def ids(store):
    """Three runs: shallow and good, deep and bad, failed before it had a figure."""
    made = []
    for depth, eta, auc, state in (
        (3, 0.1, 0.9, "succeeded"),
        (6, 0.5, 0.6, "succeeded"),
        (6, 0.1, None, "failed"),
    ):
        run = store.create_run("late")
        store.log_params(
            run.id, {"trainer.max_depth": depth, "trainer.eta": eta, "label": "late", "code": "3"}
        )
        if auc is not None:
            store.log_metrics(run.id, {"test.auc": auc, "test.log_loss": 1 - auc, "slice[c=UA].auc": auc})
        store.finish_run(run.id, state)
        made.append(run.id)
    return made


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [2, 1, 0]),
        (["--state", "failed"], [2]),
        (["--param", "trainer.max_depth=6"], [2, 1]),
        (["--param", "trainer.max_depth=6", "--param", "trainer.eta=0.5"], [1]),
        (["--param", "label=late", "--param", 'code="3"'], [2, 1, 0]),
        (["--param", "code=3"], []),
        (["--metric", "test.auc>0.7"], [0]),
        (["--metric", "test.auc <= 0.6"], [1]),
        (["--metric", "slice[c=UA].auc=0.9", "--metric", "test.auc>=0.9"], [0]),
        (["--order-by", "test.auc"], [0, 1]),
        (["--order-by", "test.auc", "--ascending"], [1, 0]),
        (["--offset", "1", "--limit", "1"], [1]),
    ],
)
def test_runs_are_found_by_state_params_and_figures_and_ordered_by_one(listed, ids, words, found):
    code, told = listed(*words, "--json")

    assert (code, [one["id"] for one in told]) == (0, [ids[place] for place in found])


def test_the_figures_that_were_asked_for_are_shown_and_ids_stay_whole(listed, ids):
    asked = ("--metric", "test.log_loss<0.3", "--order-by", "test.auc")
    _, text = listed(*asked)
    _, (one,) = listed(*asked, "--json")

    assert ids[0] in text
    assert "test.auc 0.9" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert {name: metric["value"] for name, metric in one["metrics"].items()} == {
        "test.auc": 0.9,
        "test.log_loss": pytest.approx(0.1),
    }
    assert "metrics" not in listed("--json")[1][0]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--state", "runnings"], ["--state", '"runnings"', 'Did you mean "running"', "crashed", "lost"]),
        (["--param", "depth"], ["--param", '"depth"', "NAME=VALUE", "--param trainer.max_depth=3"]),
        (["--param", "a=1", "--param", "a=2"], ["--param", '"a" is given twice']),
        (["--metric", "test.auc"], ["--metric", '"test.auc"', "> >= < <= =", "'test.auc>0.7'"]),
        (["--metric", "test.auc>high"], ["--metric", '"test.auc>high"', "number"]),
        (["--metric", "test.auc==1"], ["--metric", '"test.auc==1"']),
        (["--metric", "test.auc>nan"], ["--metric", '"test.auc>nan"']),
        (["--ascending"], ["--ascending", "--order-by test.log_loss"]),
        (["--offset", "-1"], ["--offset", "greater than or equal to 0"]),
    ],
)
def test_a_wrong_word_is_wrong_usage_that_says_what_is_right(listed, words, parts):
    code, told = listed(*words)

    assert code == 2
    assert [part for part in parts if part not in told] == []


def test_a_name_that_no_run_has_is_told_with_the_one_that_was_meant(listed, ids):
    code, told = listed("--param", "max_depth=6", "--metric", "auc>0.5")

    assert code == 0
    assert 'no run of the last 3 has a param "max_depth". Did you mean "trainer.max_depth"?' in told
    assert 'has a metric "auc". Did you mean "test.auc"?' in told
    assert "has a" not in listed("--param", "trainer.max_depth=9")[1], "the name is right"


@pytest.mark.parametrize(
    "value", ["late", "3", "true", '"x"', "NaN", "", 3, 0.5, True, None, [1, "a"], {"a": None}]
)
def test_what_runs_show_prints_of_a_param_finds_it(listed, store, value):
    run = store.create_run("late")
    store.log_params(run.id, {"given": value})

    assert params_of_words([f"given={param_text(value)}"]) == {"given": value}
    assert param_text(value) in listed(to=("runs", "show"))[1]
    assert [one["id"] for one in listed("--param", f"given={param_text(value)}", "--json")[1]] == [run.id]


def test_a_dead_driver_of_this_machine_is_noticed_before_its_lease_is_over(listed, store):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive = store.create_run("late")
    store.take_lease(alive.id, "another-machine:1:1:x", HOUR_US)
    gone = store.create_run("late")
    store.take_lease(gone.id, f"{socket.gethostname()}:{ended.pid}:1:x", HOUR_US)

    assert [one.split()[2] for one in listed()[1].splitlines() if one[:2] == "20"] == ["lost", "running"]
    assert "of late: lost, by" in listed(gone.id, to=("runs", "show"))[1]
    assert [(one["id"], one["state"]) for one in listed("--state", "lost", "--json")[1]] == [
        (gone.id, "running")
    ]
    assert [(one["id"], one["lost"]) for one in listed("--state", "running", "--json")[1]] == [
        (alive.id, False)
    ]
    assert listed("--state", "lost", "--offset", "1", "--json")[1] == []
    assert listed(gone.id, "--json", to=("runs", "show"))[1]["lost"] is True


@pytest.mark.parametrize(
    "words", [("runs", "list"), ("runs", "list", "--state", "lost"), ("runs", "show", "latest")]
)
def test_whether_a_driver_is_gone_is_asked_once_of_a_run(listed, store, monkeypatch, words):
    """It may end while the answer is made, which would then say both."""
    store.take_lease(store.create_run("late").id, "another-machine:1:1:x", HOUR_US)
    gone: list[bool] = []
    monkeypatch.setattr("mlflow_core.workflow.lease.driver_is_gone", lambda _: gone.pop())

    gone[:] = [True]
    code, told = listed(to=words)
    assert (code, "lost" in told, "not ended" in told) == (0, True, True), told

    gone[:] = [True]
    code, told = listed("--json", to=words)
    assert code == 0
    assert '"lost": true' in json.dumps(told)
