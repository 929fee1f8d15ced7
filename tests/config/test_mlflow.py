"""The section [mlflow]: off by default, secrets by reference only and never shown."""

from __future__ import annotations

import pytest

from mlflow_core.config import load_settings
from mlflow_core.errors import ConfigError


def test_it_is_off_unless_an_address_is_set(tmp_path):
    assert load_settings(tmp_path, environ={}).mlflow.tracking_uri is None


def test_a_token_is_a_reference_that_is_shown_and_blotted_out(tmp_path):
    (tmp_path / "mlcore.toml").write_text(
        '[mlflow]\ntracking_uri = "https://mlflow.internal"\ntoken = "${env:MLFLOW}"\nmodels = true\nwithin = "90s"\n'
    )

    settings = load_settings(tmp_path, environ={"MLFLOW": "very-hidden"})

    shown = {one.key: one.value for one in settings.entries()}
    assert shown["mlflow.token"] == "${env:MLFLOW}"
    assert "very-hidden" in settings.secret_values()
    assert (settings.mlflow.models, settings.mlflow.within_s) == (True, 90.0)
    assert settings.origin("mlflow.models") == "mlcore.toml"


@pytest.mark.parametrize("key", ["token", "username", "password"])
def test_what_opens_a_server_must_be_a_reference_and_is_not_shown_where_it_is_none(tmp_path, key):
    (tmp_path / "mlcore.toml").write_text(f'[mlflow]\n{key} = "very-hidden"\n')

    with pytest.raises(ConfigError, match=rf"mlcore\.toml: mlflow\.{key}: .*reference") as failed:
        load_settings(tmp_path, environ={})
    assert "very-hidden" not in str(failed.value)


def test_a_relative_file_starts_at_the_projects_folder(tmp_path):
    settings = load_settings(tmp_path, overrides={"mlflow.tracking_uri": "sqlite:///mlflow.db"}, environ={})

    assert settings.mlflow.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("length", ["soon", "10ms"])
def test_a_time_that_no_server_can_keep_is_refused(tmp_path, length):
    with pytest.raises(ConfigError, match=r"mlflow\.within"):
        load_settings(tmp_path, overrides={"mlflow.within": length}, environ={})
