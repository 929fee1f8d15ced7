"""One question asked in every way: HTTP, the clients, the command, Feast's own call; and the server as a process."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlflow_core.client import FeatureClient
from mlflow_core.feast.registry import open_store
from mlflow_core.metadata import MetadataStore
from mlflow_core.serve.run import Served, application
from tests.serve.shop import NOW, mlcore, prepared, running

USERS = [1, 2, 3, 99]
ROWS = [{"user_id": user, "basket": 30.0} for user in USERS]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("journey"), "journey_shop")


@pytest.fixture(scope="module")
def url(project: Path) -> Iterator[str]:
    with running(application(Served(str(project), clock=NOW))) as address:
        yield address


def by_client(url: str) -> list[dict[str, tuple[Any, str]]]:
    with FeatureClient(url, timeout_s=30.0) as client:
        answer = client.get("shop", ROWS)
    return _rows(answer.columns, answer.statuses)


def by_http(url: str) -> list[dict[str, tuple[Any, str]]]:
    body = {"service": "shop", "entities": ROWS}
    answer = httpx.post(f"{url}/v1/features", json=body, timeout=30.0).json()
    return _rows(answer["features"], answer["statuses"])


def by_command(project: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, tuple[Any, str]]]:
    rows = []
    for user in USERS:
        words = ("features", "get", "shop", "--at", NOW, f"user_id={user}", "basket=30", "--json")
        assert mlcore(project, *words) == 0
        answer = json.loads(capsys.readouterr().out)
        rows += _rows(answer["features"], answer["statuses"])
    return rows


def by_feast(project: Path) -> list[dict[str, tuple[Any, str]]]:
    store = open_store(project / "journey_shop", clock=NOW)
    response = store.get_online_features(store.get_feature_service("shop"), entity_rows=ROWS)
    message, values = response.proto, response.to_dict()
    columns = {name: values[name] for name in message.metadata.feature_names.val if name not in ROWS[0]}
    names = {0: "INVALID", 1: "PRESENT", 2: "NULL_VALUE", 3: "NOT_FOUND", 4: "OUTSIDE_MAX_AGE"}
    statuses = {
        name: [names[status] for status in vector.statuses]
        for name, vector in zip(message.metadata.feature_names.val, message.results, strict=True)
        if name in columns
    }
    return _rows(columns, statuses)


def _rows(columns: dict[str, Any], statuses: dict[str, Any]) -> list[dict[str, tuple[Any, str]]]:
    # A status that all rows have is told once.
    statuses = {
        name: [told] * len(columns[name]) if isinstance(told, str) else told
        for name, told in statuses.items()
    }
    return [
        {name: (_plain(values[i]), statuses[name][i]) for name, values in columns.items()} for i in range(len(values))
    ] if (values := next(iter(columns.values()))) else []  # fmt: skip


def _plain(value: Any) -> Any:
    """Undo what is only a way of writing: text for big integers, times, bytes and numbers that JSON has not."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, float) and math.isinf(value):
        return "Infinity"
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, bytes):
        return {b"\x00\xff": "AP8=", b"": ""}[value]
    return str(value) if isinstance(value, int) and value > 2**53 else value


def test_http_client_command_and_feast_give_the_same_values_and_statuses(
    project: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    http = by_http(url)

    assert by_client(url) == http
    assert by_command(project, capsys) == http
    feasts = by_feast(project)
    assert [set(row) for row in feasts] == [set(row) for row in http]
    for ours, theirs in zip(http, feasts, strict=True):
        assert {name: theirs[name] for name in ours} == ours
    assert http[0]["relative"] == (2.0, "PRESENT")
    assert http[1]["country"] == (None, "OUTSIDE_MAX_AGE")
    assert http[3]["orders_24h"] == (0, "NOT_FOUND")


def test_features_get_shows_a_table_of_values_statuses_and_times(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mlcore(project, "features", "get", "shop", "--at", NOW, "user_id=2", "basket=30") == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["feature", "value", "status", "event", "time"]
    country = next(line for line in lines if line.startswith("country"))
    assert country.split() == ["country", "OUTSIDE_MAX_AGE", "2024-01-05T01:00:00Z"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("features", "get", "shpo", "user_id=1"), 2, 'Did you mean "shop"?'),
        (("features", "get", "shop", "user=1", "basket=1"), 2, 'Did you mean "user_id"?'),
        (("features", "get", "shop", "user_id=1"), 2, '"basket" is missing'),
        (("features", "get", "shop", "user_id=one", "basket=1"), 2, "Expected int64"),
        (("features", "get", "shop", "user_id"), 2, "is no KEY=VALUE"),
        (("features", "get", "shop", "user_id=1", "user_id=2"), 2, "given twice"),
        (("features", "get", "shop", "--at", "noon", "user_id=1", "basket=1"), 2, "is not a time"),
        (("predict", "late_arrival", "user_id=1"), 2, 'no model "late_arrival"'),
        (("materialize", "spendings", "--to", NOW), 2, 'Did you mean "spending"?'),
        (("materialize", "--from", "2024-01-11", "--to", NOW), 2, "--from is after --to"),
        (("serve", "--clock", "noon"), 2, "is not a clock"),
    ],
)
def test_a_wrong_command_is_one_clear_line_and_an_exit_code(
    project: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    assert mlcore(project, *words) == code

    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_materialising_is_reported_and_recorded_view_by_view(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = prepared(tmp_path, "recorded_shop")
    capsys.readouterr()

    # ten minutes after eleven the values of eleven are due; an hour later they are an hour late
    assert (
        mlcore(
            root,
            "materialize",
            "spending",
            "--to",
            "2024-01-10T11:00Z",
            "--clock",
            "2024-01-10T12:05Z",
            "--full",
            "--json",
        )
        == 0
    )

    out, err = capsys.readouterr()
    assert "Materializing" not in out + err
    (report,) = json.loads(out)["views"]
    assert (report["view"], report["boundary"], report["rows"]) == ("spending", "2024-01-10T11:00:00Z", 3)
    assert (report["missed"], report["late"]) == (True, "55m")
    assert report["nulls"] == {"amount_sum_24h": 1, "amount_mean_24h": 1, "orders_24h": 0, "last_items": 1}
    assert mlcore(root, "materialize", "--to", "2024-01-10T11:30Z", "--clock", "2024-01-10T12:05Z") == 0
    assert "Materializing" not in capsys.readouterr().out
    from mlflow_core.config import Principal, SystemClock, load_settings

    with MetadataStore(
        load_settings(root).metadata_url(), SystemClock(), Principal("test"), project="shop"
    ) as store:
        spending = [
            (one.missed, one.boundary_us) for one in reversed(store.list_materialisations("spending"))
        ]
        profile = [one.missed for one in reversed(store.list_materialisations("profile"))]
    eleven = report["boundary_us"]
    assert spending == [(False, eleven - 3_600_000_000), (True, eleven), (False, eleven)]
    assert profile == [False, True]


def test_a_view_that_fails_is_reported_and_the_others_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = prepared(tmp_path, "failing_shop")
    capsys.readouterr()
    (root / "failing_shop" / "data" / "profiles.parquet").unlink()

    code = mlcore(root, "materialize", "--to", "2024-01-10T11:00Z", "--clock", "2024-01-10T11:10Z", "--json")

    out, err = capsys.readouterr()
    reports = {report["view"]: report for report in json.loads(out)["views"]}
    assert code == 1
    assert "profiles.parquet" in err
    assert "profiles.parquet" in reports["profile"]["error"]
    assert reports["spending"]["error"] is None
    assert (reports["spending"]["rows"], reports["spending"]["skipped"]) == (3, 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_server_is_a_process_that_answers_and_ends_when_told(project: Path, workers: int) -> None:
    command = [sys.executable, "-m", "mlflow_core.cli", "--root", str(project), "serve"]
    command += ["--port", "0", "--clock", NOW, "--workers", str(workers)]
    served = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        assert served.stderr is not None
        line = served.stderr.readline()
        assert line.startswith("serving shop on http://127.0.0.1:"), line
        address = line.split()[-1]
        with FeatureClient(address, timeout_s=120.0) as client:
            assert client.get("shop", ROWS).columns["relative"][0] == 2.0
    finally:
        served.send_signal(signal.SIGTERM)
        _, rest = served.communicate(timeout=60)
    assert served.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in rest


def test_a_port_that_is_taken_is_said_in_one_line(
    project: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = url.rpartition(":")[2]

    assert mlcore(project, "serve", "--port", port, "--clock", NOW) == 1

    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
