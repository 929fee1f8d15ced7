"""How far a change reaches: through what was applied as well as through what is declared."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_core.plan.diff import declared_json, diff
from mlflow_core.plan.impact import column_changes, destructions, reached
from mlflow_core.plan.lineage import Node
from mlflow_core.plan.project import KINDS, Project
from tests.plan.repos import GOOD, good, load

VIEW, SERVICE, SPEED = Node("views", "delays"), Node("services", "model"), Node("on_demand", "speed")
PIPELINE, CARRIER = Node("pipelines", "late"), Node("entities", "carrier")
ABOVE_VIEW = {VIEW, SERVICE, SPEED, PIPELINE}


def applied(project: Project) -> dict[str, dict[str, object]]:
    return {
        kind: {name: declared_json(one) for name, one in project.declared(kind).items()} for kind in KINDS
    }


def reach(tmp_path: Path, changed: dict[str, str]) -> set[Node]:
    before = applied(load(good(tmp_path / "before")))
    now = load(good(tmp_path / "now", changed))
    return set(reached(diff(before, now), before, now))


def test_a_changed_window_reaches_everything_made_of_its_view(tmp_path: Path) -> None:
    views = GOOD["feature_repo/views.py"].replace('over="24h"', 'over="12h"')

    assert reach(tmp_path, {"feature_repo/views.py": views}) == ABOVE_VIEW


def test_a_changed_source_reaches_also_the_pipeline_whose_rows_it_gives(tmp_path: Path) -> None:
    sources = GOOD["feature_repo/sources.py"].replace('known_at="known", ', "")

    assert reach(tmp_path, {"feature_repo/sources.py": sources}) == {Node("sources", "flights"), *ABOVE_VIEW}


def test_what_is_removed_reaches_what_was_made_of_it(tmp_path: Path) -> None:
    only_source = "import mlflow_core as ml\nfrom feature_repo.sources import flights\n"
    found = reach(tmp_path, {"feature_repo/views.py": only_source, "pipelines/late.py": ""})

    assert found == ABOVE_VIEW


@pytest.mark.parametrize("words", ['description="Late."', 'owner="ana"', 'tags={"team": "ops"}'])
def test_what_only_people_read_reaches_nothing(tmp_path: Path, words: str) -> None:
    views = GOOD["feature_repo/views.py"].replace(
        '"delays", entity=carrier', f'"delays", {words}, entity=carrier'
    )

    assert reach(tmp_path, {"feature_repo/views.py": views}) == set()


@pytest.mark.parametrize("setting", ['schedule=ml.Schedule("0 6 * * *")', "retries=3"])
def test_when_and_how_often_a_pipeline_is_tried_reaches_nothing(tmp_path: Path, setting: str) -> None:
    pipeline = GOOD["pipelines/late.py"].replace('slices=["origin"],', f'slices=["origin"], {setting},')

    assert reach(tmp_path, {"pipelines/late.py": pipeline}) == set()


def test_columns_that_go_or_get_another_type_are_destroyed_and_new_ones_are_not(tmp_path: Path) -> None:
    before = {VIEW: {"delay": "double", "late": "double"}, SERVICE: {"delay": "double"}}
    after = {VIEW: {"delay": "int64", "count": "int64"}, CARRIER: {}, SERVICE: {"delay": "double"}}

    (one,) = column_changes(before, after)
    found = destructions(diff({}, load(good(tmp_path))), [one])

    assert (one.node, dict(one.added), dict(one.removed)) == (VIEW, {"count": "int64"}, {"late": "double"})
    assert one.describe() == "delays (feature view): + count int64, - late double, ~ delay double -> int64"
    assert [each.what for each in found] == ["loses late", "delay becomes int64, was double"]


def test_an_entity_with_other_keys_is_another(tmp_path: Path) -> None:
    before = applied(load(good(tmp_path / "before")))
    entities = GOOD["feature_repo/entities.py"].replace('keys=["origin", "dest"]', 'keys=["origin"]')
    now = load(good(tmp_path / "now", {"feature_repo/entities.py": entities}))

    found = destructions(diff(before, now), [])

    assert [one.describe() for one in found] == ["route (entity): has other keys"]
