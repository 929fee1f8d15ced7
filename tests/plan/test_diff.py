"""The diff of a project against what was applied, and several problems as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from mlflow_core.errors import PlanError, SourceError
from mlflow_core.plan.diff import diff
from mlflow_core.plan.problems import Problems, Several
from mlflow_core.plan.project import KINDS, Project
from mlflow_core.spec import Agg, Entity, FeatureView, ParquetSource

SOURCE = ParquetSource("flights", path="x.parquet", event_time="at")


def project(view: FeatureView) -> Project:
    return Project(
        "p",
        Path(),
        Path(),
        entities={"carrier": Entity("carrier")},
        sources={"flights": SOURCE},
        views={view.name: view},
    )


def applied(of: Project) -> dict[str, dict[str, Any]]:
    return {
        kind: {n: orjson.loads(one.canonical_json()) for n, one in of.declared(kind).items()}
        for kind in KINDS
    }


OLD = FeatureView("delays", source=SOURCE, features=["delay", Agg("delay", "mean", over="1h")], ttl="3h")
NEW = FeatureView(
    "delays", source=SOURCE, features=["delay", Agg("delay", "max", over="1h")], owner="ops@example.org"
)


def test_what_was_applied_does_not_differ_from_itself() -> None:
    changes = diff(applied(project(OLD)), project(OLD))
    assert not changes
    assert changes.describe() == "No changes. What is declared is what was applied."


def test_everything_is_new_where_nothing_was_applied() -> None:
    changes = diff({}, project(OLD))
    assert [(c.action, c.kind, c.name) for c in changes.changes] == [
        ("add", "entities", "carrier"),
        ("add", "sources", "flights"),
        ("add", "views", "delays"),
    ]
    assert changes.describe().endswith("3 to add, 0 to change, 0 to remove.")


def test_changes_are_told_by_field_and_lists_by_what_came_and_went() -> None:
    (change,) = diff(applied(project(OLD)), project(NEW)).changes
    assert change.describe().splitlines() == [
        "~ feature view delays",
        '    features: - {"column":"delay","functions":["mean"],"over":["1h"]}, '
        '+ {"column":"delay","functions":["max"],"over":["1h"]}',
        '    owner: default -> "ops@example.org"',
        '    ttl: "3h" -> default',
    ]


def test_what_is_no_longer_declared_is_removed_also_native_objects() -> None:
    before = {**applied(project(OLD)), "services": {"gone": {}}, "native": {"Entity:driver": {}}}
    assert [c.describe() for c in diff(before, project(OLD)).of("remove")] == [
        "- feature service gone",
        "- Feast object Entity:driver",
    ]


def test_another_order_of_features_is_a_change() -> None:
    swapped = FeatureView("delays", source=SOURCE, features=list(reversed(OLD.features)), ttl="3h")
    (change,) = diff(applied(project(OLD)), project(swapped)).changes
    assert change.fields[0].describe() == "features: another order"


def test_one_problem_is_raised_as_it_is_and_several_as_one_without_nesting() -> None:
    problems, inner = Problems(), Problems()
    problems.raise_all()
    assert not problems
    problems.add(SourceError("is empty"))
    with pytest.raises(SourceError, match=r"^is empty$"):
        problems.raise_all()
    inner.add(PlanError("a"))
    inner.add(PlanError("b"))
    with problems.noted():
        inner.raise_all()
    with problems.noted(object="View", place="file:1"):
        raise PlanError("a key", object="View: feature")
    with pytest.raises(Several) as caught:
        problems.raise_all()
    assert str(caught.value).splitlines() == [
        "4 problems:", "  is empty", "  a", "  b", "  file:1: View: feature: a key",
    ]  # fmt: skip
