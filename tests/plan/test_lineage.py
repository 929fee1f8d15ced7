"""Lineage: what is made of what, in both directions, down to the source's columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_core.errors import UnknownNameError
from mlflow_core.plan.lineage import Lineage, columns_of, lineage
from mlflow_core.plan.project import Project
from mlflow_core.spec import Agg, Entity, FeatureView, ParquetSource
from tests.plan.repos import good, load

SOURCE = ParquetSource("flights", path="x.parquet", event_time="at")


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lineage]:
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    yield lineage(load(good(tmp_path)))
    for name in [one for one in sys.modules if one.partition(".")[0] in ("feature_repo", "pipelines")]:
        del sys.modules[name]


def test_a_pipeline_is_made_of_everything_below_it_in_building_order(whole: Lineage) -> None:
    assert [str(node) for node in whole.upstream("late")] == [
        "carrier (entity)",
        "flights (source)",
        "delays (feature view)",
        "speed (on-demand features)",
        "model (feature service)",
    ]
    assert whole.downstream("late") == ()


def test_a_source_is_in_everything_above_it(whole: Lineage) -> None:
    assert [node.name for node in whole.downstream("flights")] == ["delays", "speed", "model", "late"]
    assert whole.upstream("flights") == ()


def test_an_unknown_name_names_the_nearest(whole: Lineage) -> None:
    with pytest.raises(UnknownNameError, match='Did you mean "delays"'):
        whole.upstream("delay")


def test_a_name_of_two_kinds_means_the_later_one_unless_the_kind_is_said() -> None:
    view = FeatureView("origin", entity=Entity("origin"), source=SOURCE, features="temp")
    project = Project(
        "p",
        Path(),
        Path(),
        entities={"origin": Entity("origin")},
        sources={"flights": SOURCE},
        views={"origin": view},
    )
    whole = lineage(project)
    assert [node.kind for node in whole.upstream("origin")] == ["entities", "sources"]
    assert [node.kind for node in whole.downstream("entities:origin")] == ["views"]


def test_features_are_traced_to_the_columns_of_the_source() -> None:
    view = FeatureView(
        "v",
        source=SOURCE,
        columns={"late": "delay > grace", "delay": "coalesce(delay, 0)"},
        features=[
            "late",
            "dest",
            Agg("late", "mean", over="1h", where="origin = 'EWR'"),
            Agg("*", "count", over="1h"),
        ],
    )
    assert columns_of(view) == {
        "late": {"delay", "grace"},
        "dest": {"dest"},
        "late_mean_1h": {"delay", "grace", "origin"},
        "v_count_1h": frozenset(),
    }
