"""The project as a notebook sees it."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
import pytest

import mlflow_core as ml
from mlflow_core.errors import PlanError, UnknownNameError
from mlflow_core.telemetry.progress import SilentProgress


@pytest.fixture
def project(machines):
    return ml.load(machines / "machines", progress=SilentProgress())


def test_a_dataset_comes_as_one_frame_with_its_parts(project):
    frame = project.dataset("breakdown")

    assert set(frame["part"]) == {"train", "validate", "test"}
    assert frame["event_timestamp"].dt.tz is not None
    assert frame.loc[frame["part"] == "train", "event_timestamp"].max() < pd.Timestamp("2024-02-20", tz="UTC")
    assert set(frame["breaks"]) == {0, 1}


def test_a_dataset_is_computed_where_explain_says(machines, project):
    settings = machines / "mlcore.toml"
    settings.write_text(
        settings.read_text() + '\n[cluster]\nlarger_than = "1B"\nworkers = 1\nmemory = "1GiB"\n'
    )
    large = ml.load(machines / "machines", progress=SilentProgress())
    assert project.explain("breakdown").estimate.place == "in process"
    assert large.explain("breakdown").estimate.place == "on Dask"

    here, there = large.dataset("breakdown", in_process=True), large.dataset("breakdown")

    pd.testing.assert_frame_equal(here, there)
    assert list((machines / ".mlcore/layouts").iterdir()), "the cluster keeps what it sorted"


def test_features_keep_every_row_in_order(project):
    rows = pd.DataFrame(
        {
            "machine": ["m3", "nobody", "m3"],
            "event_timestamp": pd.to_datetime(["2024-02-01", "2024-02-01", "2024-02-01"], utc=True),
        }
    )

    found = project.features("machine_health", rows)

    assert found["machine"].tolist() == ["m3", "nobody", "m3"]
    assert found["temperature"].notna().tolist() == [True, False, True]
    assert found["vibration_max_3d"][0] == found["vibration_max_3d"][2]


def test_explain_says_rows_label_and_split(project):
    told = str(project.explain("breakdown"))

    assert "one for each event of readings" in told
    assert "max of broke of readings in the 3d after" in told
    assert "clock=served" in told


def test_a_service_is_explained_for_the_rows_given_and_without_them(project):
    rows = {"machine": ["m1"], "event_timestamp": [datetime(2024, 2, 1)]}
    told = project.explain("machine_health", rows)

    assert "given    1 row, 2024-02-01T00:00:00Z to 2024-02-01T00:00:00Z" in str(told)
    assert told.to_json()["rows"]["rows"] == 1
    assert repr(told) == told.describe()
    assert "given    no rows yet" in str(project.explain("machine_health"))


def test_it_shows_its_views_as_a_table(project):
    page = project._repr_html_()

    assert "<table>" in page
    assert "temperature, vibration_mean_3d, vibration_max_3d, breakdowns_14d" in page
    assert "1 views, 1 services, 1 pipelines" in repr(project)


def test_a_misspelt_name_is_answered_with_the_nearest(project):
    with pytest.raises(UnknownNameError, match='Did you mean "machine_health"'):
        project.features("machine_helth", {"machine": ["m1"]})


def test_a_folder_that_does_not_exist_is_said_so(tmp_path):
    with pytest.raises(PlanError, match="is no folder"):
        ml.load(tmp_path / "nowhere")
