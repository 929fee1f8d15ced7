"""The section ``[cluster]``: what it takes, where its paths start, and that its secrets stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_core.config import load_settings
from mlflow_core.errors import ConfigError


def settings(tmp_path: Path, text: str, **environ: str):
    (tmp_path / "mlcore.toml").write_text(text)
    return load_settings(tmp_path, environ=environ)


def test_options_are_a_table_whose_secrets_are_known_to_the_log_and_shown_as_references(tmp_path):
    found = settings(
        tmp_path,
        '[cluster]\nprofile = "gateway"\nworkers = 2\n[cluster.options]\npassword = "${env:GATEWAY}"\naddress = "http://g"\n',
        GATEWAY="open sesame",
    )

    assert found.cluster.options["password"].reveal() == "open sesame"
    assert found.cluster.options["address"] == "http://g"
    assert found.secret_values() == ("open sesame",)
    assert all("sesame" not in entry.value for entry in found.entries())


def test_options_of_the_environment_are_one_json_object(tmp_path):
    found = settings(tmp_path, "", MLCORE_CLUSTER_OPTIONS='{"queue": "short"}')

    assert found.cluster.options == {"queue": "short"}
    with pytest.raises(ConfigError, match=r"MLCORE_CLUSTER_OPTIONS: cluster.options: .*one JSON object"):
        settings(tmp_path, "", MLCORE_CLUSTER_OPTIONS="queue=short")


def test_paths_of_certificates_and_reports_start_at_the_project(tmp_path):
    found = settings(
        tmp_path, '[cluster]\ntls_ca = "certs/ca.pem"\nperformance_report = "report.html"\n'
    ).cluster

    assert found.tls_ca == str(tmp_path / "certs" / "ca.pem")
    assert found.performance_report == str(tmp_path / "report.html")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('profile = "slrum"', "cluster.profile"),
        ('address = "10.0.0.5:8786"', "scheduler's address such as tcp://"),
        ('start_within = "soon"', "cluster.start_within"),
        ("options = 3", "cluster.options"),
        ("werkers = 2", 'Did you mean "workers"'),
    ],
)
def test_what_is_wrong_is_named(tmp_path, line, told):
    with pytest.raises(ConfigError, match=told):
        settings(tmp_path, f"[cluster]\n{line}\n")
