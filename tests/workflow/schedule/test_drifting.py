"""A real pipeline that is started when its features drift: once for one drift, for a reason that names them, or told why not."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

import mlflow_core as ml
from mlflow_core.errors import GateFailed, SpecError
from mlflow_core.plan.check import check_project
from mlflow_core.sources import read_schema
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.schedule.drifting import Reference, declared_drift, reference_of
from tests.workflow import retail
from tests.workflow.retail import kept_of, measured, store
from tests.workflow.scheduling import now_us, scheduler, starts

HOUR = 3_600_000_000


def once(root: Path) -> list[str]:
    """Let one scheduler look at once, though it may not be time; the schedules that it started."""
    with store(root) as kept:
        kept.claim_schedule("likely", "test", HOUR)
        kept.release_schedule("likely", "test", next_us=now_us() - 1)
    made = scheduler(root)
    ended = made.run(threading.Event(), once=True)
    made.metadata.close()
    return [one.schedule for one in ended]


def told(root: Path) -> str:
    one = kept_of(root)
    assert "problem" not in one.seen
    return str(one.seen["told"])


def said(root: Path) -> list[str]:
    """What schedulers of this process have said of starts."""
    lines = [line for file in root.glob("said-*") for line in file.read_text().splitlines()]
    return [line for line in lines if not line.endswith("done")]


def test_what_is_as_it_was_starts_nothing_and_what_has_drifted_starts_once(shop: Path) -> None:
    retail.visits(shop, "same", day=30, days=7, seed=2)
    assert once(shop) == []
    assert re.fullmatch(
        r"nothing above 0\.2, at most \w+ 0\.\d\d, in 420 rows of 7d until 2024-02-06T.*Z", told(shop)
    )

    retail.visits(shop, "other", day=37, days=7, seed=3, amount=58.0)
    assert once(shop) == ["likely"]
    (why,) = said(shop)
    assert re.fullmatch(r"likely: amount \d\.\d\d above 0\.2, in 420 rows of 7d until 2024-02-13T.*Z", why)

    assert once(shop) == []
    assert once(shop) == []
    assert told(shop).endswith(", as at the last start")
    assert starts(shop) == ["likely"]


def test_a_drift_that_is_there_when_it_is_declared_is_a_reason(shop: Path) -> None:
    retail.visits(shop, "other", day=30, days=7, seed=3, web=0.1)
    with store(shop) as kept:
        kept.remove_schedule("likely")
    retail.apply(shop, now_us() - HOUR)

    assert kept_of(shop).seen["told"] == "nothing yet"
    assert once(shop) == ["likely"]
    assert said(shop)[0].startswith("likely: channel ")


def test_after_a_run_it_is_that_runs_training_set_which_counts_and_another_drift_is_another_reason(
    shop: Path,
) -> None:
    retail.visits(shop, "other", day=30, days=27, seed=4, amount=58.0)
    assert once(shop) == ["likely"]

    retail.declare(shop, since=30)
    retail.train(shop)
    retail.apply(shop, now_us() - HOUR)
    assert once(shop) == []
    assert told(shop).startswith("nothing above 0.2")

    retail.visits(shop, "third", day=57, days=5, seed=5, amount=58.0, web=0.95)
    assert once(shop) == ["likely"]
    assert said(shop)[1].startswith("likely: channel ")


def test_a_run_that_a_gate_has_stopped_and_a_search_are_not_what_is_compared_with(shop: Path) -> None:
    retail.visits(shop, "other", day=30, days=27, seed=4, amount=58.0)
    assert once(shop) == ["likely"]

    retail.declare(shop, since=30, gate='ml.Gate(at_least={"auc": 1.0})')
    with pytest.raises(GateFailed):
        retail.train(shop)
    with store(shop) as kept:
        (stopped, first) = kept.list_runs(pipeline="likely")
        assert stopped.dataset_id not in (None, first.dataset_id)
        search = kept.create_run("likely", kind="tune", dataset_id=stopped.dataset_id)
        kept.finish_run(search.id, "succeeded")
    retail.apply(shop, now_us() - HOUR)

    assert once(shop) == []
    assert told(shop).startswith("amount ")
    assert told(shop).endswith(", as at the last start")


def test_a_drift_that_a_start_has_left_is_another_reason_when_all_rows_are_newer(shop: Path) -> None:
    retail.visits(shop, "other", day=30, days=7, seed=3, amount=58.0)
    assert once(shop) == ["likely"]

    retail.visits(shop, "more", day=37, days=6, seed=4, amount=58.0)
    assert once(shop) == []
    retail.visits(shop, "yet_more", day=43, days=1, seed=5, amount=58.0)
    assert once(shop) == ["likely"]


def test_a_drift_that_was_away_is_another_reason_when_it_comes_back(shop: Path) -> None:
    retail.visits(shop, "other", day=30, days=4, seed=3, amount=62.0)
    assert once(shop) == ["likely"]

    (shop / "retail" / "visits" / "other.parquet").unlink()
    assert once(shop) == []
    retail.visits(shop, "other", day=30, days=4, seed=3, amount=62.0)
    assert once(shop) == ["likely"]


def test_rows_are_read_only_where_something_is_new(shop: Path) -> None:
    for _ in range(3):
        assert once(shop) == []
    assert measured(shop) == 1

    retail.visits(shop, "same", day=30, days=1, seed=2)
    assert once(shop) == []
    assert measured(shop) == 2

    retail.train(shop)  # which finds all there was but the training set, and that is another one
    assert once(shop) == []
    assert once(shop) == []
    assert measured(shop) == 3

    retail.declare(shop, drifted='by=0.5, over="7d", look="1s"')
    retail.apply(shop, now_us() - HOUR)
    assert once(shop) == []
    assert measured(shop) == 3
    retail.declare(shop, drifted='by=0.5, over="14d", look="1s"')
    retail.apply(shop, now_us() - HOUR)
    assert once(shop) == []
    assert measured(shop) == 4
    assert "in 840 rows of 14d" in told(shop)


def test_it_takes_as_many_features_as_was_said_of_those_that_were_named(shop: Path) -> None:
    retail.visits(shop, "other", day=30, days=7, seed=3, amount=58.0)
    for drifted, what in {
        'features=["channel", "basket"]': "nothing above 0.2",
        "at_least=2": ", and 2 have to be",
        'features=["amount", "channel"], at_least=2': ", and 2 have to be",
        "by=2.5": "nothing above 2.5, at most amount ",
    }.items():
        retail.declare(shop, drifted=f'{drifted}, look="1s"')
        retail.apply(shop, now_us() - HOUR)
        assert once(shop) == []
        assert what in told(shop)

    retail.declare(shop, drifted='features=["amount"], look="1s"')
    retail.apply(shop, now_us() - HOUR)
    assert once(shop) == ["likely"]


def test_the_training_that_is_compared_with_is_found_behind_any_number_of_searches(shop: Path) -> None:
    with store(shop) as kept:
        before = reference_of(kept, "likely")
        for _ in range(101):
            kept.finish_run(kept.create_run("likely", kind="tune").id, "succeeded")

        assert isinstance(before, Reference)
        assert reference_of(kept, "likely") == before


def test_where_nothing_can_be_said_nothing_is_started_and_it_is_told_why(shop: Path, tmp_path: Path) -> None:
    untrained = retail.shop(tmp_path / "untrained")
    retail.apply(untrained, now_us() - HOUR)
    assert once(untrained) == []
    assert told(untrained) == "no run of likely has succeeded yet, so there is nothing to compare with"

    retail.visits(shop, "other", day=30, days=7, seed=3, amount=58.0)
    retail.declare(shop, drifted='over="3d", look="1s"')
    retail.apply(shop, now_us() - HOUR)
    assert once(shop) == []
    assert told(shop).startswith("there are 180 rows of 3d until 2024-02-06T")
    assert told(shop).endswith("and 200 are needed to compare")
    assert measured(untrained) == 0


def test_features_that_are_declared_otherwise_have_not_drifted(shop: Path) -> None:
    retail.visits(shop, "other", day=30, days=7, seed=3, amount=58.0)
    specs = shop / "retail" / "specs.py"
    specs.write_text(specs.read_text().replace(', "basket"', ""))
    retail.apply(shop, now_us() - HOUR)

    assert once(shop) == []
    assert told(shop).startswith("the features are declared otherwise than for run ")


def test_a_training_set_whose_rows_were_removed_is_told(shop: Path) -> None:
    retail.visits(shop, "other", day=30, days=7, seed=3, amount=58.0)
    aside = shop / "aside"
    (shop / ".mlcore" / "artifacts").rename(aside)
    assert once(shop) == []
    assert told(shop).endswith("was trained on are not there any more")
    aside.rename(shop / ".mlcore" / "artifacts")
    assert once(shop) == ["likely"]

    with store(shop) as kept:
        kept.remove_dataset(kept.get_dataset("likely").id, "it was older than 90d and nothing needed it")
    assert once(shop) == []
    assert told(shop).endswith("are not there: it was older than 90d and nothing needed it")


def check(root: Path) -> None:
    workspace = open_workspace(root)
    try:
        check_project(workspace.project, read_schema)
    finally:
        workspace.metadata.close()


def test_a_feature_that_does_not_exist_is_refused_with_the_nearest(shop: Path) -> None:
    for drifted, what in {
        'features=["basket_"]': '"basket_" is no feature of service "shop".*basket',
        "at_least=4": "at_least is 4, and there are 3 features",
    }.items():
        retail.declare(shop, drifted=drifted)
        with pytest.raises(SpecError, match=what) as error:
            check(shop)
        assert "likely.py:" in str(error.value)


def test_a_list_whose_drift_is_not_measured_is_refused_where_it_is_named_and_not_counted(shop: Path) -> None:
    specs = shop / "retail" / "specs.py"
    recent = 'ml.Agg("amount", "last(2)", over="7d", name="recent")'
    specs.write_text(specs.read_text().replace('"basket"', recent))
    for drifted, what in {
        'features=["recent"]': r'"recent" is list<.*>, whose drift is not measured',
        "at_least=3": "at_least is 3, and there are 2 features that can be compared",
    }.items():
        retail.declare(shop, drifted=drifted)
        with pytest.raises(SpecError, match=what):
            check(shop)


def test_secrets_of_sources_stay_the_references_that_they_are() -> None:
    visits = ml.SqlSource(
        "visits", url="postgresql://${env:SHOP_PASSWORD}@db/shop", table="v", event_time="at"
    )
    view = ml.FeatureView("habits", entity=ml.Entity("customer"), source=visits, features=["amount"])
    data = ml.Dataset(
        features=ml.FeatureService("shop", [view]),
        spine=ml.Spine(visits),
        label=ml.Label("bought"),
        split=ml.TimeSplit(train_until="2024-02-01", validate_until="2024-03-01"),
    )

    written: dict[str, Any] = declared_drift(ml.Drifted(), "likely", data)

    assert written["sources"][0]["url"] == "postgresql://${env:SHOP_PASSWORD}@db/shop"
    assert orjson.loads(orjson.dumps(written)) == written
