"""Loading: what is found in a repository, what is refused, and that nothing stays behind after a failure."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

import pytest

from mlflow_core.errors import PlanError, SpecError, UnknownNameError
from tests.plan.repos import ENTITIES, GOOD, HEAD, VIEWS, good, load, write


@pytest.fixture(autouse=True)
def _own_imports() -> object:
    modules, path = dict(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - set(modules):
        if name.partition(".")[0] in ("feature_repo", "pipelines", "shared"):
            del sys.modules[name]
    sys.modules.update({name: module for name, module in modules.items() if name not in sys.modules})
    sys.path[:] = path


def failure(root: Path) -> str:
    path, modules = (
        list(sys.path),
        {name: id(module) for name, module in sys.modules.items() if "feature_repo" in name},
    )
    with pytest.raises(PlanError) as caught:
        load(root)
    assert sys.path == path
    assert modules == {name: id(module) for name, module in sys.modules.items() if "feature_repo" in name}
    return str(caught.value)


def test_everything_declared_is_found_by_kind_and_name(tmp_path: Path) -> None:
    project = load(good(tmp_path))
    assert set(project.entities) == {"carrier", "route"}
    assert set(project.sources) == {"flights"}
    assert set(project.views) == {"delays"}
    assert set(project.on_demand) == {"speed"}
    assert set(project.services) == {"model"}
    assert set(project.pipelines) == {"late"}
    assert project.native == ()
    assert project.repo == tmp_path / "feature_repo"
    assert project.views["delays"].place.endswith("views.py:6")


def test_each_file_is_imported_once_under_its_package_name(tmp_path: Path) -> None:
    project = load(good(tmp_path))
    module = importlib.import_module("feature_repo.views")
    assert module.delays is project.views["delays"]
    assert project.pipelines["late"].data.features is project.services["model"]
    assert project.on_demand["speed"].import_path == "feature_repo.views:speed"


def test_what_only_a_view_or_a_label_names_is_collected_too(tmp_path: Path) -> None:
    text = HEAD + (
        'view = ml.FeatureView("v", entity=ml.Entity("origin"),\n'
        '    source=ml.ParquetSource("inner", path="x", event_time="t"), features="a")\n'
        'made = [ml.FeatureView(n, source=view.source, features="a") for n in ("one", "two")]\n'
        'by_name = {"three": ml.FeatureView("three", source=view.source, features="a")}\n'
    )
    project = load(write(tmp_path, {"feature_repo/all.py": text}))
    assert set(project.entities) == {"origin"}
    assert set(project.sources) == {"inner"}
    assert set(project.views) == {"v", "one", "two", "three"}


def test_a_second_load_sees_the_edited_file(tmp_path: Path) -> None:
    load(good(tmp_path))
    (tmp_path / "feature_repo/entities.py").write_text(ENTITIES.replace('"carrier"', '"airline"'))
    assert "airline" in load(tmp_path).entities
    assert not list(tmp_path.rglob("__pycache__"))


def test_two_projects_in_one_process_do_not_mix(tmp_path: Path) -> None:
    shared = {
        "shared.py": "NAME = 'first'\n",
        "feature_repo/e.py": HEAD + "from shared import NAME\ne = ml.Entity(NAME)\n",
    }
    first, second = (
        write(tmp_path / "a", shared),
        write(tmp_path / "b", {**shared, "shared.py": "NAME = 'second'\n"}),
    )
    assert set(load(first).entities) == {"first"}
    assert set(load(second).entities) == {"second"}
    assert str(first) not in sys.path
    assert sys.path[0] == str(second)
    assert type(pickle.loads(pickle.dumps(sys.path[0]))) is str
    assert set(load(first).entities) == {"first"}


def test_a_failed_load_leaves_the_project_before_it_in_place(tmp_path: Path) -> None:
    project = load(good(tmp_path / "a"))
    failure(write(tmp_path / "b", {"feature_repo/views.py": "1 / 0\n"}))
    assert importlib.import_module("feature_repo.views").delays is project.views["delays"]


def test_syntax_errors_of_all_files_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    files = {"feature_repo/a.py": "x = 1\nx = = 2\n", "feature_repo/b.py": "def f(:\n    pass\n"}
    text = failure(write(tmp_path, files))
    assert "2 problems" in text
    assert "a.py:2: syntax error: invalid syntax. The line: x = = 2" in text
    assert "b.py:1: syntax error" in text


def test_an_import_error_names_the_line_and_the_nearest_module(tmp_path: Path) -> None:
    text = failure(good(tmp_path, {"feature_repo/views.py": VIEWS.replace("repo.sources", "repo.source")}))
    assert "views.py:4: import error: No module named 'feature_repo.source'" in text
    assert 'Did you mean "feature_repo.sources"?' in text


def test_a_missing_library_and_a_missing_name_are_told(tmp_path: Path) -> None:
    text = failure(write(tmp_path, {"feature_repo/a.py": "import no_such_library\n"}))
    assert "a.py:1: import error: No module named 'no_such_library'. Install it" in text
    files = {
        "feature_repo/a.py": "carrier = 1\n",
        "feature_repo/b.py": "from feature_repo.a import carrierx\n",
    }
    text = failure(write(tmp_path / "names", files))
    assert "b.py:1: import error: cannot import name 'carrierx'" in text
    assert 'Did you mean "carrier"?' in text


def test_an_error_inside_a_function_of_the_repository_names_its_innermost_line(tmp_path: Path) -> None:
    text = failure(write(tmp_path, {"feature_repo/a.py": "def f():\n    return {}['x']\n\nf()\n"}))
    assert "a.py:2: KeyError when it is imported: 'x'" in text
    assert "sys.exit" in failure(write(tmp_path / "b", {"feature_repo/a.py": "import sys\nsys.exit(3)\n"}))


def test_a_wrong_declaration_keeps_its_own_error(tmp_path: Path) -> None:
    write(tmp_path, {"feature_repo/a.py": HEAD + '\nx = ml.Agg("a", "mean", over="5")\n'})
    with pytest.raises(
        SpecError, match=r'a\.py:3: Agg "a": field "over.*has no unit, so its length is ambiguous'
    ):
        load(tmp_path)


def test_a_circle_is_drawn_with_the_lines_of_its_imports(tmp_path: Path) -> None:
    files = {
        "feature_repo/a.py": "import feature_repo.b\n",
        "feature_repo/b.py": "x = 1\nfrom feature_repo import c\n",
        "feature_repo/c.py": "from .a import y\n",
    }
    text = failure(write(tmp_path, files))
    assert "feature_repo/a.py:1 -> feature_repo/b.py:2 -> feature_repo/c.py:1 -> feature_repo/a.py" in text


def test_imports_in_functions_and_for_type_checkers_make_no_circle(tmp_path: Path) -> None:
    files = {
        "feature_repo/a.py": "import feature_repo.b\n",
        "feature_repo/b.py": (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import feature_repo.a\n"
            "def f():\n    import feature_repo.a\n"
        ),
    }
    assert load(write(tmp_path, files)).views == {}


def test_one_name_with_two_definitions_is_refused_and_the_difference_told(tmp_path: Path) -> None:
    files = {"feature_repo/z.py": HEAD + 'again = ml.Entity("carrier", keys=["code"])\n'}
    text = failure(good(tmp_path, files))
    assert 'z.py:2: Entity "carrier": is declared twice, and differently' in text
    assert "field \"keys\" is ('code',) here and ('carrier',) at" in text
    assert "entities.py:2" in text


def test_equal_entities_may_be_written_out_again_but_equal_views_may_not(tmp_path: Path) -> None:
    again = HEAD + 'same = ml.Entity("carrier")\n'
    assert "carrier" in load(good(tmp_path, {"feature_repo/z.py": again})).entities
    view = (
        HEAD
        + 'v = ml.FeatureView("v", source=ml.ParquetSource("s", path="p", event_time="t"), features="a")\n'
    )
    text = failure(write(tmp_path / "twice", {"feature_repo/a.py": view, "feature_repo/b.py": view}))
    assert 'FeatureView "v": is declared twice: here and at' in text


def test_a_view_and_on_demand_features_of_one_name_are_refused(tmp_path: Path) -> None:
    changed = VIEWS.replace("def speed", "def delays_").replace("[delays, speed]", "[delays, delays_]")
    changed = changed.replace("@ml.on_demand(", '@ml.on_demand(name="delays", ')
    assert 'OnDemand "delays": has the name of a feature view' in failure(
        good(
            tmp_path,
            {
                "feature_repo/views.py": changed.replace("[delays, delays_]", "[delays_]"),
                "pipelines/late.py": "",
            },
        )
    )


def test_native_feast_objects_are_found_and_may_not_share_a_name(tmp_path: Path) -> None:
    native = (
        "from datetime import timedelta\n"
        "from feast import Entity, FeatureView, Field, FileSource, ValueType\nfrom feast.types import Float64\n"
        'driver = Entity(name="driver", join_keys=["driver"], value_type=ValueType.STRING)\n'
        'trips = FileSource(name="trips", path="data/flights.parquet", timestamp_field="departure")\n'
        'stats = FeatureView(name="stats", entities=[driver], ttl=timedelta(days=1), source=trips,\n'
        '    schema=[Field(name="delay", dtype=Float64)])\n'
    )
    project = load(good(tmp_path, {"feature_repo/native.py": native}))
    assert [type(one).__name__ for one in project.native] == ["Entity", "FileSource", "FeatureView"]
    clash = (
        native.replace('name="driver"', 'name="carrier"')
        .replace('"stats"', '"delays"')
        .replace('"trips"', '"flights"')
    )
    text = failure(good(tmp_path / "b", {"feature_repo/native.py": clash}))
    assert "3 problems" in text
    assert 'FeatureView "delays": has the name of a Feast FeatureView' in text
    assert 'Entity "carrier": has the name of a Feast Entity' in text


def test_a_missing_folder_names_the_nearest_and_pipelines_may_be_missing(tmp_path: Path) -> None:
    write(tmp_path, {"feature_rep/a.py": ""})
    assert 'there is no feature repository "feature_repo". Did you mean "feature_rep"?' in failure(tmp_path)
    files = {path: text for path, text in GOOD.items() if path.startswith("feature_repo")}
    assert load(write(tmp_path / "b", files)).pipelines == {}


def test_a_file_that_hides_a_package_or_has_no_module_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"json.py": "", "my-views.py": ""})
    from mlflow_core.plan.load import load_project

    with pytest.raises(PlanError) as caught:
        load_project(tmp_path, name="t", feature_repo=".", pipelines="pipelines")
    assert "hides the package json" in str(caught.value)
    assert '"my-views" is not a module name' in str(caught.value)


def test_an_unknown_name_asked_of_a_project_names_the_nearest(tmp_path: Path) -> None:
    project = load(good(tmp_path))
    assert project.find("views", "delays") is project.views["delays"]
    with pytest.raises(UnknownNameError, match=r'no feature view "delay"\. Did you mean "delays"'):
        project.find("views", "delay")
