"""A newcomer's path from an empty folder: init, what it prints, and those commands typed one by one."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.cli.templates import TEMPLATES, Template
from tests.house.pages import blocks_of, commands_of
from tests.house.repository import ROOT
from tests.journeys.test_pages import typed

PAGE = (ROOT / "docs" / "getting-started.md").read_text()
WALK = next(list(commands_of(block)) for block in blocks_of(PAGE) if "mlcore init parcels\n" in block.text)


def mlcore(capsys, *words):
    """Run a command; returns its exit code, what it printed and what it complained of."""
    capsys.readouterr()
    code = run(list(words))
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_commands_of_the_page_lead_from_an_empty_folder_to_a_registered_model(
    tmp_path, monkeypatch, capsys
):
    folder = tmp_path

    for command in WALK:
        folder = typed(command, folder, monkeypatch, capsys)

    monkeypatch.chdir(folder)
    assert folder == tmp_path / "parcels"
    version = json.loads(mlcore(capsys, "--json", "models", "list")[1])[0]
    run_of_it = json.loads(mlcore(capsys, "--json", "runs", "show", "latest")[1])
    assert (version["model"], version["version"], version["aliases"]) == ("late_parcel", 1, ["champion"])
    assert (run_of_it["id"], run_of_it["state"]) == (version["run_id"], "succeeded")


def test_the_page_names_each_station_of_the_path():
    stations = [" ".join(command.words[1:3]) for command in WALK if command.words[0] == "mlcore"]

    assert [one.split()[0] for one in stations] == [
        "init", "doctor", "plan", "apply", "features", "dataset", "train", "models", "materialize", "features",
        "predict", "runs",
    ]  # fmt: skip


def test_init_prints_the_commands_of_the_page_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    code, out, err = mlcore(capsys, *shlex.split(WALK[0].text)[1:])

    assert code == 0, err
    assert [line[2:] for line in out.splitlines() if line.startswith("$ ")] == [one.text for one in WALK[1:]]


def test_the_files_of_the_minimal_template_are_those_of_the_page_on_projects_of_ones_own():
    page = (ROOT / "docs" / "own-project.md").read_text()
    files = TEMPLATES["minimal"].files("parcels")

    shown = {block.title: block.text for block in blocks_of(page) if block.title is not None}

    assert len(shown) == 4
    assert {title: files[title] for title in shown} == shown


def test_nothing_is_written_over(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlcore.toml").write_text("mine")
    (tmp_path / "feature_repo").mkdir()

    code, out, err = mlcore(capsys, "init")

    assert (code, out) == (2, "")
    assert "feature_repo, mlcore.toml" in err
    assert "nothing is written over" in err
    assert (tmp_path / "mlcore.toml").read_text() == "mine"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["feature_repo", "mlcore.toml"]


@pytest.mark.parametrize("link", [False, True])
def test_neither_are_files_of_the_names_that_the_data_gets(link, tmp_path, monkeypatch, capsys):
    target = tmp_path / "parcels"
    target.mkdir()
    mine = target / "parcels.parquet"
    mine.symlink_to("elsewhere") if link else mine.write_text("mine")
    monkeypatch.chdir(tmp_path)

    code, out, err = mlcore(capsys, "init", "parcels")

    assert (code, out) == (2, "")
    assert "is there already: parcels.parquet" in err
    assert [one.name for one in target.iterdir()] == ["parcels.parquet"]
    assert mine.is_symlink() if link else mine.read_text() == "mine"


def test_what_else_is_in_the_folder_stays(tmp_path, monkeypatch, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)

    code, out, _ = mlcore(capsys, "--json", "init")

    made = json.loads(out)
    assert code == 0
    assert made["folder"] == str(tmp_path)
    assert made["commands"][0] == "mlcore doctor", "one is there already"
    assert {"notes.txt", "parcels.parquet", *(Path(one).parts[0] for one in made["files"])} == {
        one.name for one in tmp_path.iterdir()
    }


def test_a_project_takes_its_name_from_its_folder(tmp_path, capsys):
    for folder, name in (("Late-Parcels 2", "late_parcels_2"), ("7days", "project_7days")):
        assert mlcore(capsys, "init", str(tmp_path / folder))[0] == 0
        assert f"project: {name}\n" in (tmp_path / folder / "feature_repo" / "feature_store.yaml").read_text()


def test_a_script_that_fails_leaves_nothing_and_says_why(tmp_path, monkeypatch, capsys):
    broken = Template("minimal", ("-c", "raise SystemExit('no parcels today')"))
    monkeypatch.setattr("mlflow_core.cli.templates.TEMPLATES", {"minimal": broken})
    target = tmp_path / "new" / "below"

    code, _, err = mlcore(capsys, "init", str(target))

    assert code == 1
    assert "no parcels today" in err
    assert list(tmp_path.iterdir()) == []


def test_a_template_that_does_not_exist_is_answered_with_the_nearest(tmp_path, capsys):
    code, _, err = mlcore(capsys, "init", str(tmp_path), "--template", "flight")

    assert code == 2
    assert 'Did you mean "flights"' in err


def test_the_flights_are_the_flagships_files_with_data_that_its_declarations_fit(
    tmp_path, monkeypatch, capsys
):
    target = tmp_path / "flights"

    assert mlcore(capsys, "init", str(target), "--template", "flights")[0] == 0

    for name in TEMPLATES["flights"].code:
        assert (target / name).read_text() == (ROOT / name).read_text()
    code, out, err = mlcore(capsys, "--root", str(target), "plan")
    assert code == 4, err
    assert "+ training pipeline late_arrival" in out


def test_the_flights_say_which_package_they_come_from_where_it_is_missing(tmp_path, monkeypatch, capsys):
    missing = Template("flights", ("-m", "feature_repo.prepare_data"), needs=("flights-of-nowhere",))
    monkeypatch.setattr("mlflow_core.cli.templates.TEMPLATES", {"flights": missing})

    code, _, err = mlcore(capsys, "init", str(tmp_path / "flights"), "--template", "flights")

    assert code == 2
    assert "takes its data from the package flights-of-nowhere, which is not installed" in err
    assert "pip install flights-of-nowhere" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=lambda one: one.name)
def test_every_file_of_a_template_is_in_the_built_package(template):
    import tomllib

    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    packed = {
        origin: place
        for origin, place in wheel["force-include"].items()
        if place.startswith(f"mlflow_core/cli/templates/{template.name}/")
    }

    assert packed == {name: f"mlflow_core/cli/templates/{template.name}/{name}" for name in template.code}
    flagship = {
        path.relative_to(ROOT).as_posix()
        for folder in ("feature_repo", "pipelines")
        for path in (ROOT / folder).glob("*.*")
        if path.suffix in (".py", ".yaml") and path.name != "demo.py"
    }
    assert template.name != "flights" or flagship | {"mlcore.toml"} == set(template.code)
