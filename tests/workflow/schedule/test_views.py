"""Views that are materialised as they become available, through the real command: once a boundary, and after whatever failed."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.cli.context import Invocation
from mlflow_core.cli.schedule import open_scheduler
from mlflow_core.config import FixedClock, Principal, parse_time
from mlflow_core.config.times import format_time
from mlflow_core.metadata import Materialisation, MetadataStore
from mlflow_core.workflow.schedule.child import Child, start_child
from tests.serve.shop import DECLARATIONS, make_project

PACKAGE = "views_shop"
SPENDING, PROFILE = "view:spending", "view:profile"


def mlcore(root: Path, *words: str, code: int = 0) -> Any:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        ended = run(["--root", str(root), "--json", *words])
    assert ended == code, err.getvalue() + out.getvalue()
    return json.loads(out.getvalue()) if out.getvalue() else err.getvalue()


def at(root: Path, time: str, materialize: str = "true") -> None:
    """Let it be some time in the project, for the scheduler as for the commands that it starts."""
    text = f'[project]\nfeature_repo = "{PACKAGE}"\n[clock]\nvalue = "{time}"\n[schedule]\nmaterialize = {materialize}\n'
    (root / "mlcore.toml").write_text(text)


def kept(root: Path) -> MetadataStore:
    url = f"sqlite:///{root}/.mlcore/metadata.db"
    return MetadataStore(url, FixedClock(parse_time("2024-01-10T10:00Z")), Principal("test"), project="shop")


def once(root: Path) -> list[tuple[str, int, int | None]]:
    """Let one scheduler do what is due, with materialisations in this process: a process for each takes its time."""
    call = Invocation(given_root=root, json=True)
    made = open_scheduler(call)

    def materialise(views: Sequence[str]) -> Child:
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(["--root", str(root), "--json", "materialize", *views])
        (root / "said").write_text(err.getvalue() + out.getvalue())
        return start_child(["sh", "-c", f"cat said; exit {code}"], root / "log", folder=root)

    made.materialise = materialise
    ended = made.run(threading.Event(), once=True)
    call.close()
    return sorted((one.schedule, one.missed, one.status) for one in ended)


def materialised(root: Path) -> dict[str, list[Materialisation]]:
    with kept(root) as store:
        return {view: store.list_materialisations(view)[::-1] for view in ("spending", "profile")}


def boundaries(root: Path) -> dict[str, list[str]]:
    return {
        view: [format_time(one.boundary_us) for one in found] for view, found in materialised(root).items()
    }


def schedules(root: Path) -> Mapping[str, Any]:
    return {one["name"]: one for one in mlcore(root, "schedule", "list")}


def started(answer: Any) -> list[tuple[str, int, int | None]]:
    return sorted((one["schedule"], one["missed"], one["status"]) for one in answer["started"])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    make_project(tmp_path, PACKAGE)
    at(tmp_path, "2024-01-10T09:10Z")
    mlcore(tmp_path, "apply")
    return tmp_path


def test_each_boundary_is_materialised_once_when_its_delay_has_passed(shop: Path) -> None:
    first = mlcore(shop, "scheduler", "--once")
    again = mlcore(shop, "scheduler", "--once")
    at(shop, "2024-01-10T10:09Z")
    early = mlcore(shop, "scheduler", "--once")
    at(shop, "2024-01-10T10:10Z")
    due = mlcore(shop, "scheduler", "--once")

    assert started(first) == started(due) == [(PROFILE, 0, 0), (SPENDING, 0, 0)]
    assert again["started"] == early["started"] == []
    both = ["2024-01-10T09:00:00Z", "2024-01-10T10:00:00Z"]
    assert boundaries(shop) == {"spending": both, "profile": both}
    listed = schedules(shop)
    assert format_time(listed[SPENDING]["next_us"]) == "2024-01-10T11:10:00Z"
    assert listed[SPENDING]["seen"] == {"reached": "2024-01-10T10:00:00Z"}


def test_after_downtime_one_run_makes_up_for_all_and_leaves_no_gap(shop: Path) -> None:
    once(shop)
    at(shop, "2024-01-10T14:30Z")

    assert once(shop) == [(PROFILE, 4, 0), (SPENDING, 4, 0)]
    assert boundaries(shop)["spending"] == ["2024-01-10T09:00:00Z", "2024-01-10T14:00:00Z"]
    answer = mlcore(shop, "features", "get", "plain", "--at", "2024-01-10T14:30Z", "user_id=1")
    assert "15.0" in json.dumps(answer)  # the order of half past nine is in it, which came in between


def test_a_view_that_fails_stops_no_other_and_is_tried_again_later_each_time(shop: Path) -> None:
    orders = shop / PACKAGE / "data" / "orders.parquet"
    orders.rename(shop / "away.parquet")

    assert once(shop) == [(PROFILE, 0, 0), (SPENDING, 0, 1)]
    one = schedules(shop)[SPENDING]
    assert "orders" in one["last_error"]
    assert format_time(one["next_us"]) == "2024-01-10T09:11:00Z"
    assert once(shop) == []
    at(shop, "2024-01-10T09:11Z")
    assert once(shop) == [(SPENDING, 0, 1)]
    one = schedules(shop)[SPENDING]
    assert (format_time(one["next_us"]), one["seen"]["failures"]) == ("2024-01-10T09:13:00Z", 2)

    (shop / "away.parquet").rename(orders)
    at(shop, "2024-01-10T09:13Z")

    assert once(shop) == [(SPENDING, 0, 0)]
    one = schedules(shop)[SPENDING]
    assert (one["last_error"], "failures" in one["seen"]) == (None, False)
    assert boundaries(shop) == {view: ["2024-01-10T09:00:00Z"] for view in ("spending", "profile")}


def test_what_was_done_by_hand_is_not_done_again(shop: Path) -> None:
    mlcore(shop, "materialize", "spending")

    assert once(shop) == [(PROFILE, 0, 0)]
    assert format_time(schedules(shop)[SPENDING]["next_us"]) == "2024-01-10T10:10:00Z"


def test_a_view_that_was_declared_otherwise_is_due_at_once(shop: Path) -> None:
    once(shop)
    file = shop / PACKAGE / "shop.py"
    file.write_text(DECLARATIONS.replace('over="24h", name="orders_24h"', 'over="12h", name="orders_24h"'))
    mlcore(shop, "--yes", "apply")

    assert once(shop) == [(SPENDING, 0, 0)]


def test_a_view_is_paused_resumed_foretold_and_started_by_hand_like_any_schedule(shop: Path) -> None:
    ahead = mlcore(shop, "schedule", "next", SPENDING, "--count", "2")
    assert [one["at"] for one in ahead] == ["2024-01-10T10:10:00Z", "2024-01-10T11:10:00Z"]
    mlcore(shop, "schedule", "pause", SPENDING)
    assert once(shop) == [(PROFILE, 0, 0)]
    mlcore(shop, "schedule", "resume", SPENDING)
    assert once(shop) == [(SPENDING, 0, 0)]
    due = schedules(shop)[SPENDING]["next_us"]

    by_hand = mlcore(shop, "schedule", "run", SPENDING)

    assert (by_hand["status"], by_hand["due_us"]) == (0, None)
    assert schedules(shop)[SPENDING]["next_us"] == due
    assert len(materialised(shop)["spending"]) == 2


def test_only_views_that_are_named_are_materialised_and_none_unless_it_is_said(shop: Path) -> None:
    at(shop, "2024-01-10T09:10Z", '["profile"]')
    mlcore(shop, "apply")
    assert set(schedules(shop)) == {PROFILE}
    at(shop, "2024-01-10T09:10Z", "false")
    mlcore(shop, "apply")
    assert schedules(shop) == {}

    at(shop, "2024-01-10T09:10Z", '["spendings"]')
    told = mlcore(shop, "apply", code=2)

    assert "spendings" in told
    assert 'Did you mean \\"spending\\"' in told
