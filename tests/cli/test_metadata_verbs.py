"""``mlcore tokens``, ``audit`` and ``db``: who acts is established once, told everywhere, and lost nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.config import Principal, SystemClock, load_settings
from mlflow_core.errors import MetadataError, UsageError
from mlflow_core.metadata import MetadataStore
from mlflow_core.metadata.acting import acting_principal
from mlflow_core.workflow.project import open_workspace

Mlcore = Callable[..., tuple[int, Any]]


@pytest.fixture
def mlcore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Mlcore:
    """Runs a command in an empty project; gives its exit code and what it printed, as values where it is JSON."""
    (tmp_path / "mlcore.toml").touch()

    def call(*words: str) -> tuple[int, Any]:
        code = run([*words, "--root", str(tmp_path)])
        said = capsys.readouterr()
        if "--json" in words and code == 0:
            return code, json.loads(said.out)
        return code, said.out + said.err

    return call


def acting(tmp_path: Path, **environ: str) -> tuple[str, str]:
    found = acting_principal(load_settings(tmp_path, environ=environ), environ=environ)
    return found.name, found.established


def test_a_token_wins_over_a_name_and_a_name_over_the_systems_user(
    mlcore: Mlcore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "unix")
    _, made = mlcore("tokens", "create", "ops@example.org", "--json")
    assert (made["principal"], made["created_by"], made["established"]) == ("ops@example.org", "unix", "os")
    assert acting(tmp_path) == ("unix", "os")
    assert acting(tmp_path, MLCORE_PRINCIPAL_NAME="ci") == ("ci", "config")
    settings = load_settings(tmp_path, environ={"MLCORE_PRINCIPAL_NAME": "ci"})
    assert acting_principal(settings, option="ada", environ={}).established == "option"
    assert acting(tmp_path, MLCORE_TOKEN=made["token"], MLCORE_PRINCIPAL_NAME="ci") == (
        "ops@example.org",
        "token",
    )
    (tmp_path / "token").write_text(made["token"] + "\n")
    (tmp_path / "mlcore.toml").write_text('[principal]\nname = "ci"\ntoken = "${file:token}"\n')
    assert acting(tmp_path) == ("ops@example.org", "token")
    assert made["token"] in load_settings(tmp_path).secret_values()
    (tmp_path / "feature_repo").mkdir()
    assert open_workspace(tmp_path).metadata.record_audit("test", "x").established == "token"


def test_a_token_that_does_not_hold_is_an_error_and_never_falls_back_to_a_claim(
    mlcore: Mlcore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MetadataError, match="no tokens yet"):
        acting(tmp_path, MLCORE_TOKEN="mlc_guessed")
    assert not (tmp_path / ".mlcore").exists()
    _, made = mlcore("tokens", "create", "ops", "--json")
    monkeypatch.setenv("MLCORE_TOKEN", made["token"])
    assert mlcore("--as", "ops", "tokens", "list")[0] == 0
    code, said = mlcore("--as", "ada", "tokens", "list")
    assert (code, 'says "ada", and the token is that of "ops"' in said) == (2, True)
    assert mlcore("tokens", "revoke", str(made["id"]))[0] == 0
    code, said = mlcore("audit", "log")
    assert (code, "none that is in force here" in said) == (1, True)
    assert made["token"] not in said


@pytest.mark.parametrize("blank", ["", " "])
def test_a_name_that_is_blank_is_refused_and_nobody_elses_is_taken(
    mlcore: Mlcore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: str
) -> None:
    for words in (["runs", "list"], ["config", "show"]):
        code, said = mlcore("--as", blank, *words)
        assert (code, f'--as is given "{blank}"' in said, "--as ops@example.org" in said) == (2, True, True)
    _, made = mlcore("tokens", "create", "ops", "--json")
    with pytest.raises(UsageError, match="--as is given"):
        acting_principal(load_settings(tmp_path), option=blank, environ={"MLCORE_TOKEN": made["token"]})
    with pytest.raises(UsageError, match="--as is given"):
        acting_principal(load_settings(tmp_path), option=blank, environ={})


def test_settings_are_shown_though_a_secret_is_not_set_and_nothing_else_works(
    mlcore: Mlcore, tmp_path: Path
) -> None:
    (tmp_path / "mlcore.toml").write_text('[metadata]\nurl = "postgresql://ml:${env:NOPE}@db/ml"\n')
    code, said = mlcore("config", "show", "--origin")
    assert (code, "${env:NOPE}" in said, "NOPE is not set" in " ".join(said.split())) == (0, True, True)
    _, told = mlcore("config", "show", "--json")
    assert [one for one in told if "missing" in one] == [
        {
            "key": "metadata.url",
            "value": "postgresql://ml:${env:NOPE}@db/ml",
            "missing": "the environment variable NOPE is not set",
        }
    ]
    code, said = mlcore("runs", "list")
    assert (code, "NOPE is not set" in said) == (2, True)


def test_a_written_token_is_refused_and_not_shown(mlcore: Mlcore, tmp_path: Path) -> None:
    (tmp_path / "mlcore.toml").write_text('[principal]\ntoken = "mlc_written_down"\n')
    code, said = mlcore("config", "show")
    assert code == 2
    assert "write a reference to the token" in said
    assert "mlc_written_down" not in said
    (tmp_path / "mlcore.toml").write_text('[principal]\ntoken = "${file:token}"\n')
    (tmp_path / "token").write_text("mlc_kept")
    _, shown = mlcore("config", "show")
    assert "${file:token}" in shown
    assert "mlc_kept" not in shown


def test_tokens_are_made_listed_and_revoked_and_all_of_it_is_told(mlcore: Mlcore) -> None:
    code, said = mlcore("tokens", "create", "ops", "--note", "at night", "--expires", "90d")
    assert (code, said.startswith("mlc_")) == (0, True)
    code, said = mlcore("tokens", "create", "mallory")
    assert (code, "not known by a token" in said) == (1, True)
    assert mlcore("tokens", "create", "ada", "--force", "--expires", "2999-01-01")[0] == 0
    assert mlcore("tokens", "create", "late", "--force", "--expires", "2013-01-01")[0] == 2
    assert mlcore("tokens", "revoke", "1", "--why", "lost", "--force")[0] == 0
    _, listed = mlcore("tokens", "list", "--json")
    assert [(one["principal"], one["state"]) for one in listed] == [("ops", "revoked"), ("ada", "in force")]
    assert not any("token" in one for one in listed)
    _, table = mlcore("tokens", "list")
    assert "at night" in table
    _, told = mlcore("audit", "log", "--json", "--action", "token.*")
    assert [one["action"] for one in told] == ["token.revoke", "token.create", "token.create"]
    assert (told[0]["details"]["why"], told[0]["details"]["forced"]) == ("lost", True)


def test_the_audit_log_is_filtered_by_object_principal_action_and_time(
    mlcore: Mlcore, tmp_path: Path
) -> None:
    for who, object in (("ada", "model:late"), ("bob", "model:late@champion"), ("bob", "view:weather")):
        settings = load_settings(tmp_path)
        principal = acting_principal(settings, option=who)
        name = settings.project.name
        with MetadataStore(settings.metadata_url(), SystemClock(), principal, project=name) as store:
            store.record_audit("test.change", object, {"why": f"because of {who}"})

    def objects(*words: str) -> list[str]:
        return [one["object"] for one in mlcore("audit", "log", "--json", *words)[1]]

    assert objects() == ["view:weather", "model:late@champion", "model:late"]
    assert objects("--limit", "1") == ["view:weather"]
    assert objects("--object", "model:late") == ["model:late"]
    assert objects("--object", "model:late*") == ["model:late@champion", "model:late"]
    assert objects("--principal", "bob") == ["view:weather", "model:late@champion"]
    assert objects("--action", "token.*") == []
    assert objects("--since", "1h") == objects()
    assert objects("--until", "1h") == []
    assert objects("--since", "2999-01-01") == []
    table = mlcore("audit", "log")[1]
    assert table.count("because of") == 3
    assert max(len(line) for line in table.splitlines()) <= 80
    assert mlcore("audit", "verify")[1].startswith("3 rows, whole")
    assert mlcore("audit", "log", "--since", "yesterday")[0] == 2


def test_a_database_is_checked_kept_and_put_back_and_the_log_tells(mlcore: Mlcore, tmp_path: Path) -> None:
    file = tmp_path / "kept.db"
    assert "no tables yet" in mlcore("db", "check")[1]
    assert mlcore("db", "backup", str(file))[0] == 1
    mlcore("tokens", "create", "ops")
    _, kept = mlcore("db", "backup", str(file), "--json")
    assert (kept["file"], kept["size"]) == (str(file), file.stat().st_size)
    assert mlcore("tokens", "create", "ada", "--force")[0] == 0
    code, said = mlcore("db", "restore", str(file))
    assert (code, "--yes" in said) == (1, True)
    assert mlcore("db", "restore", str(file), "--yes")[0] == 0
    assert [one["principal"] for one in mlcore("tokens", "list", "--json")[1]] == ["ops"]
    assert mlcore("audit", "log", "--json")[1][0]["action"] == "db.restore"
    found = mlcore("db", "check", "--json")[1]
    assert (found["ok"], found["problems"], found["audit"]["rows"]) == (True, [], 2)


def test_a_restored_backup_hides_whom_the_replaced_database_knew_to_be_erased(
    mlcore: Mlcore, tmp_path: Path
) -> None:
    file, url = tmp_path / "kept.db", load_settings(tmp_path).metadata_url()
    name = load_settings(tmp_path).project.name
    mlcore("tokens", "create", "ops")
    mlcore("db", "backup", str(file))
    with MetadataStore(url, SystemClock(), Principal("ada"), project=name) as store:
        store.record_erasure(["customer"], b"\x00", 5)

    code, said = mlcore("db", "restore", str(file), "--yes")

    assert (code, f"did not know 1 erasure, of default/{name}" in " ".join(said.split())) == (0, True)
    assert mlcore("db", "restore", str(file), "--yes", "--json")[1]["erased_again"] == 1
    with MetadataStore(url, SystemClock(), Principal("ada"), project=name) as store:
        assert [(one.columns, one.erased_us) for one in store.list_erasures()] == [(("customer",), 5)]
    for one in tmp_path.glob(".mlcore/metadata.db*"):
        one.unlink()
    assert "nothing was there" in mlcore("db", "restore", str(file))[1].lower()


def test_no_clock_of_the_settings_lets_an_expired_token_hold(
    mlcore: Mlcore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Yesterday(SystemClock):
        def now_us(self) -> int:
            return super().now_us() - 86_400_000_000

    with MetadataStore(
        load_settings(tmp_path).metadata_url(), Yesterday(), Principal("ada"), project=tmp_path.name
    ) as store:
        expired = store.create_token("ops", expires_us=SystemClock().now_us() - 1)[1]
    monkeypatch.setenv("MLCORE_CLOCK_VALUE", "2013-11-15T12:00Z")

    with pytest.raises(MetadataError, match="none that is in force here"):
        acting(tmp_path, MLCORE_TOKEN=expired, MLCORE_CLOCK_VALUE="2013-11-15T12:00Z")
    assert [one["state"] for one in mlcore("tokens", "list", "--json")[1]] == ["expired"]


def test_no_clock_of_the_settings_keeps_the_lease_of_a_lost_driver(
    mlcore: Mlcore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = load_settings(tmp_path).metadata_url()
    with MetadataStore(url, SystemClock(), Principal("ada"), project=tmp_path.name) as store:
        run_id = store.create_run("nightly").id
        store.take_lease(run_id, "another-machine:1:1:x", 1)
    monkeypatch.setenv("MLCORE_CLOCK_VALUE", "2013-11-15T12:00Z")

    assert "lost" in mlcore("runs", "list")[1]
    assert mlcore("runs", "cancel", run_id, "--json")[1]["state"] == "cancelled"
