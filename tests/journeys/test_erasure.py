"""The right to erasure as somebody lives it: delete, materialise again, come back as a new customer."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.config import FixedClock
from mlflow_core.feast.kept_rows import online_backend
from mlflow_core.feast.registry import open_store, read_config
from mlflow_core.online.backend import Ask
from mlflow_core.online.head import is_tombstone
from mlflow_core.online.keys import encode_key
from tests.serve.shop import TIME, at, make_project, mlcore

PACKAGE = "erasure_shop"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = make_project(tmp_path_factory.mktemp("erasing"), PACKAGE)
    assert mlcore(root, "apply") == 0
    return root


def materialised(root: Path, hour: int) -> None:
    to, clock = f"2024-01-10T{hour}:00Z", f"2024-01-10T{hour}:10Z"
    assert mlcore(root, "materialize", "--to", to, "--clock", clock) == 0


def asked(root: Path, capsys, *words: str) -> dict | list:
    capsys.readouterr()
    code = run(["--root", str(root), "--json", *words])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def stored(root: Path, user: int, package: str = PACKAGE) -> dict[str, str]:
    """What the store holds, by view: row, tombstone or nothing."""
    backend = online_backend(read_config(root / package), FixedClock(0))
    views = ("profile", "spending")
    [[values]] = backend.read([Ask(("user_id",), views, [encode_key((user,))])])
    backend.close()
    return {
        view: "nothing" if value is None else "tombstone" if is_tombstone(value) else "row"
        for view, value in zip(views, values, strict=True)
    }


def appended(root: Path, name: str, **columns) -> None:
    path = root / PACKAGE / "data" / f"{name}.parquet"
    old = pq.read_table(path)
    pq.write_table(pa.concat_tables([old, pa.table(columns).select(old.column_names).cast(old.schema)]), path)


def test_who_was_erased_stays_gone_until_something_new_happens(made, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    materialised(made, 10)
    assert stored(made, 1) == {"profile": "row", "spending": "row"}

    told = asked(
        made, capsys, "features", "delete", "user", "user_id=1", "--at", "2024-01-10T10:05Z", "--yes"
    )

    assert told["online"] == {"profile": 1, "spending": 1}
    assert {one["source"]: one["rows"] for one in told["sources"]} == {"orders": 2, "profiles": 1}
    assert stored(made, 1) == {"profile": "tombstone", "spending": "tombstone"}

    materialised(made, 11)
    assert stored(made, 1) == {"profile": "tombstone", "spending": "tombstone"}
    assert stored(made, 2)["spending"] == "row"

    # An online store that has lost everything resurrects nobody, and gets its tombstones back.
    for file in (made / PACKAGE / "data").glob("online.db*"):
        file.unlink()
    materialised(made, 12)
    assert stored(made, 1) == {"profile": "tombstone", "spending": "tombstone"}

    # A late order of before the erasure stays unseen; one of after it, and a new profile, count.
    appended(
        made,
        "orders",
        order_id=["late", "new"],
        user_id=[1, 1],
        amount=[99.0, 7.0],
        item=["cup", "jug"],
        at=pa.array([at(10, 9), at(10, 12, 20)], TIME),
        known=pa.array([at(10, 12, 10), at(10, 12, 20)], TIME),
    )
    materialised(made, 13)
    assert stored(made, 1) == {"profile": "tombstone", "spending": "row"}
    store = open_store(made / PACKAGE, clock="2024-01-10T13:30Z")
    names = ["spending:amount_sum_24h", "spending:orders_24h", "profile:country"]
    found = store.get_online_features(names, [{"user_id": 1}]).to_dict()
    assert (found["amount_sum_24h"], found["orders_24h"], found["country"]) == ([7.0], [1], [None])
    rows = pd.DataFrame({"user_id": [1, 2], "event_timestamp": [at(10, 13, 30), at(6, 0)]})
    offline = store.get_historical_features(rows, names).to_df()
    assert offline["amount_sum_24h"].tolist()[0] == 7.0
    assert [offline["country"].isna()[0], offline["country"][1]] == [True, "DE"]


def test_feasts_own_ways_to_read_a_source_do_not_show_who_was_erased(made, capsys):
    asked(made, capsys, "features", "delete", "user", "user_id=1", "--at", "2024-01-10T10:05Z", "--yes")
    store = open_store(made / PACKAGE, clock="2024-01-10T13:30Z")
    view = store.get_feature_view("profile")
    args = (store.config, view.batch_source, ["user_id"], ["country"], "at")
    offline = store._get_provider().offline_store

    latest = offline.pull_latest_from_table_or_query(*args, None, at(1, 0), at(20, 0)).to_arrow()
    every = offline.pull_all_from_table_or_query(*args, None, at(1, 0), at(20, 0)).to_arrow()

    assert 1 not in latest["user_id"].to_pylist()
    assert 1 not in every["user_id"].to_pylist()
    assert sorted(every["user_id"].to_pylist()) == [2, 3]
    ranged = store.get_historical_features(
        features=["profile:country"], start_date=at(1, 0), end_date=at(20, 0), entity_df=None
    ).to_df()
    assert sorted(ranged["user_id"]) == [2, 3]


def test_the_list_names_nobody_and_says_whether_somebody_is_on_it(made, capsys):
    asked(made, capsys, "features", "delete", "user", "user_id=77", "--yes")  # nobody knows 77

    assert stored(made, 77) == {"profile": "tombstone", "spending": "tombstone"}
    listed = asked(made, capsys, "features", "erasures")
    assert [one["columns"] for one in listed][-1] == ["user_id"]
    assert all("key" not in one for one in listed)
    assert len(asked(made, capsys, "features", "erasures", "user_id=77")) == 1
    assert asked(made, capsys, "features", "erasures", "user_id=3") == []
    assert mlcore(made, "features", "erasures") == 0
    shown = capsys.readouterr().out
    assert "user_id" in shown
    assert "77" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("usr", "user_id=1"), 'there is no entity "usr"'),
        (("user",), 'no value for "user_id"'),
        (("user", "user=1"), 'no key column "user"'),
        (("user", "user_id=one"), "cannot be a key"),
        (("user", "user_id="), "cannot be a key"),
    ],
)
def test_what_cannot_be_erased_is_said_and_nothing_is_recorded(made, capsys, words, said):
    before = asked(made, capsys, "features", "erasures")

    assert mlcore(made, "features", "delete", *words, "--yes") == 2

    assert said in capsys.readouterr().err
    assert asked(made, capsys, "features", "erasures") == before


def test_nobody_is_erased_without_being_asked_for(made, capsys, monkeypatch):
    before = asked(made, capsys, "features", "erasures")

    assert mlcore(made, "features", "delete", "user", "user_id=2") == 2
    assert "Add --yes" in capsys.readouterr().err
    assert asked(made, capsys, "features", "erasures") == before


def test_each_environment_has_its_own_list(tmp_path, capsys):
    root = make_project(tmp_path, "erasure_environments")
    (root / "env").mkdir()
    (root / "env" / "production.toml").write_text('[metadata]\nurl = "sqlite:///.mlcore/production.db"\n')
    assert mlcore(root, "apply") == 0
    asked(root, capsys, "--env", "production", "features", "delete", "user", "user_id=1", "--yes")
    to = ("--to", "2024-01-10T10:00Z", "--clock", "2024-01-10T10:10Z")
    (root / "erasure_environments" / "data" / "online.db").unlink()

    assert mlcore(root, "--env", "production", "materialize", *to) == 0
    assert stored(root, 1, "erasure_environments") == {"profile": "tombstone", "spending": "tombstone"}
    assert stored(root, 2, "erasure_environments") == {"profile": "row", "spending": "row"}

    (root / "erasure_environments" / "data" / "online.db").unlink()
    assert mlcore(root, "materialize", *to) == 0
    assert stored(root, 1, "erasure_environments") == {"profile": "row", "spending": "row"}
