"""Settings: layers, origins, secrets, and errors that name file, key and the nearest valid key."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from mlflow_core.config import Secret, load_settings
from mlflow_core.config.secret import hidden_in, resolve
from mlflow_core.errors import ConfigError


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)


def test_a_project_without_a_file_has_defaults_and_its_folders_name(tmp_path: Path) -> None:
    root = tmp_path / "my flights"
    root.mkdir()
    settings = load_settings(root, environ={})
    assert settings.project.name == "my_flights"
    assert settings.metadata_url() == f"sqlite:///{root}/.mlcore/metadata.db"
    assert settings.artifact_location() == f"{root}/.mlcore/artifacts"
    assert (settings.metadata.url, settings.artifacts.location) == (
        settings.metadata_url(),
        settings.artifact_location(),
    )
    assert settings.serve.host == "127.0.0.1"
    assert settings.origin("serve.port") == "default"
    assert str(settings.make_clock()) == "system"


def test_a_project_that_names_itself_in_feast_is_called_so(tmp_path: Path) -> None:
    write(tmp_path, "features/feature_store.yaml", "project: flights\nprovider: local\n")
    write(tmp_path, "mlcore.toml", '[project]\nfeature_repo = "features"\n')
    settings = load_settings(tmp_path, environ={})
    assert (settings.project.name, settings.origin("project.name")) == (
        "flights",
        "features/feature_store.yaml",
    )
    named = load_settings(tmp_path, overrides={"project.name": "other"}, environ={})
    assert (named.project.name, named.origin("project.name")) == ("other", "override")


def test_a_feature_store_file_that_does_not_parse_is_named(tmp_path: Path) -> None:
    write(tmp_path, "feature_repo/feature_store.yaml", "project: [\n")
    with pytest.raises(ConfigError, match=r"feature_repo/feature_store\.yaml.*cannot be read"):
        load_settings(tmp_path, environ={})


def test_the_later_layer_wins_and_the_origin_says_which(tmp_path: Path) -> None:
    write(
        tmp_path,
        "mlcore.toml",
        '[project]\nname = "flights"\n[cluster]\nworkers = 2\nthreads = 1\n[serve]\nport = 1\n',
    )
    write(tmp_path, "env/prod.toml", '[cluster]\naddress = "tcp://s:8786"\nthreads = 4\n[serve]\nport = 2\n')
    environ = {"MLCORE_SERVE_PORT": "3", "MLCORE_SERVE_HOST": "::1", "MLCORE_OTHER": "x"}
    settings = load_settings(tmp_path, "prod", {"serve.port": "4"}, environ=environ)
    assert (settings.cluster.workers, settings.cluster.threads, settings.serve.port) == (2, 4, 4)
    origins = {entry.key: entry.origin for entry in settings.entries()}
    assert origins["project.name"] == "mlcore.toml"
    assert origins["cluster.threads"] == "env/prod.toml"
    assert origins["serve.host"] == "environment MLCORE_SERVE_HOST"
    assert origins["serve.port"] == "override"
    assert origins["clock.value"] == "default"
    assert load_settings(tmp_path, environ={"MLCORE_ENV": "prod"}).env == "prod"


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, environ={})
    with pytest.raises(ValueError, match="frozen"):
        settings.serve.port = 1  # type: ignore[misc]


def test_a_secret_is_resolved_and_never_printed_or_serialised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "tiger-42")
    write(tmp_path, "key.txt", "hunter-7\n")
    write(
        tmp_path,
        "mlcore.toml",
        '[metadata]\nurl = "postgresql://ml:${env:DB_PASSWORD}@db/ml"\n[artifacts]\nlocation = "s3://b/${file:key.txt}"\n',
    )
    settings = load_settings(tmp_path)
    assert settings.metadata_url() == "postgresql://ml:tiger-42@db/ml"
    assert settings.artifact_location() == "s3://b/hunter-7"
    shown = [
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        json.dumps(settings.model_dump(mode="json")),
        repr(settings.entries()),
        f"{settings.metadata.url:>60}",
        repr(settings.metadata.url),
        pickle.dumps(settings.metadata.url).decode("latin-1"),
    ]
    for text in shown:
        assert "tiger-42" not in text
        assert "hunter-7" not in text
    assert "${env:DB_PASSWORD}" in settings.model_dump_json()
    again = pickle.loads(pickle.dumps(settings.metadata.url))
    assert isinstance(again, Secret)
    assert again.reveal() == settings.metadata_url()
    assert settings.secret_values() == (
        "postgresql://ml:tiger-42@db/ml",
        "tiger-42",
        "s3://b/hunter-7",
        "hunter-7",
    )


def test_what_a_secret_is_made_of_must_not_be_seen_either(tmp_path: Path) -> None:
    key = "-----BEGIN KEY-----\nMIIEvQ\n-----END KEY-----"
    environ = {"URL": "postgresql://ml:t%40ger@db/ml", "KEY": key, "N": "7", "EMPTY": ""}

    def hidden(text: str) -> tuple[str, ...]:
        found = resolve(text, tmp_path, environ)
        assert isinstance(found, Secret)
        return found.hidden()

    assert set(hidden("${env:URL}")) == {environ["URL"], "postgresql://ml:t@ger@db/ml", "t%40ger", "t@ger"}
    assert set(hidden("${env:KEY}")) == {key, *key.splitlines()}
    # A short part stands in half of all words; the whole is hidden all the same.
    assert hidden("a${env:N}b${env:EMPTY}") == ("a7b",)
    declared = {"url": "${env:HOME_OF_NOBODY}", "properties": {"token": "x${file:key}"}, "keys": ["plain"]}
    (tmp_path / "key").write_text("hunter-7")
    assert list(hidden_in(declared, tmp_path)) == ["xhunter-7", "hunter-7"]


def test_a_doubled_dollar_is_a_literal(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, overrides={"artifacts.location": "/a/$${env:X}"}, environ={})
    assert settings.artifact_location() == "/a/${env:X}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[serve]\nprot = 1\n", ["mlcore.toml", "serve.prot", 'Did you mean "port"?']),
        ("[srve]\nport = 1\n", ["mlcore.toml", "srve", 'Did you mean "serve"?']),
        ("serve = 3\n", ["mlcore.toml", "serve", "[serve]"]),
        ("[serve]\nport = 70000\n", ["mlcore.toml", "serve.port", "70000", "65535"]),
        ('[serve]\nport = "http"\n', ["mlcore.toml", "serve.port", "'http'", "integer"]),
        ('[serve]\nport = "${env:P}"\n', ["mlcore.toml", "serve.port", "holds none"]),
        ('[cluster]\nprofile = "lokal"\n', ["mlcore.toml", "cluster.profile", "'local'"]),
        ('[cluster]\nmemory = "lots"\n', ["mlcore.toml", "cluster.memory"]),
        ('[clock]\nvalue = "yesterday"\n', ["mlcore.toml", "clock.value", "not a clock"]),
        ("[serve\nport = 1\n", ["mlcore.toml", "not valid TOML", "line 1"]),
        ('registry = "r.db"\n', ["mlcore.toml", "registry", "feature_store.yaml"]),
        ('[online_store]\ntype = "redis"\n', ["mlcore.toml", "online_store", "feature_store.yaml"]),
        ('[project]\noffline_store = "x"\n', ["mlcore.toml", "offline_store", "feature_store.yaml"]),
        ('[metadata]\nurl = "${env:NOT_SET}"\n', ["mlcore.toml", "metadata.url", "NOT_SET", "not set"]),
        (
            '[metadata]\nurl = "${file:none.txt}"\n',
            ["mlcore.toml", "metadata.url", "none.txt", "No such file"],
        ),
        ('[metadata]\nurl = "${evn:X}"\n', ["mlcore.toml", "metadata.url", 'Did you mean "env"?']),
    ],
)
def test_a_wrong_setting_names_its_file_its_key_and_what_is_right(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    write(tmp_path, "mlcore.toml", text)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, environ={"P": "1"})
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_wrong_settings_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, "mlcore.toml", "[serve]\nport = -1\n[cluster]\nworkers = 0\n")
    with pytest.raises(ConfigError, match=r"(?s)2 settings are wrong.*workers.*port"):
        load_settings(tmp_path, environ={})


def test_a_key_that_does_not_exist_hides_no_other_wrong_setting(tmp_path: Path) -> None:
    write(
        tmp_path,
        "mlcore.toml",
        '[metadata]\nurl = 3\nurk = "x"\n[retention]\nartifacts = "90"\n[project]\nname = 5\n',
    )
    write(tmp_path, "env/prod.toml", '[project]\nname = "${env:NOT_SET}"\n')
    write(tmp_path, "feature_repo/feature_store.yaml", "project: [\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, "prod", environ={})
    told = str(caught.value)
    assert told.startswith("5 settings are wrong:")
    for part in (
        "metadata.urk: no such key",
        "metadata.url: 3",
        "retention.artifacts: '90'",
        "NOT_SET",
        "yaml",
    ):
        assert part in told
    assert "project.name: 5" not in told, "a later layer says something else"


def test_a_secret_without_a_value_is_shown_where_only_references_are(tmp_path: Path) -> None:
    write(
        tmp_path,
        "mlcore.toml",
        '[metadata]\nurl = "postgresql://ml:${env:NOPE}@db/ml"\n[serve.tokens]\nada = "${env:ADA}"\n'
        '[cluster]\naddress = "tcp://${env:HOST}:1"\ntls_key = "${file:key.pem}"\n[principal]\ntoken = "${env:T}"\n',
    )
    settings = load_settings(tmp_path, environ={}, missing_too=True)
    shown = {one.key: one for one in settings.entries()}
    assert shown["metadata.url"].value == "postgresql://ml:${env:NOPE}@db/ml"
    assert shown["metadata.url"].missing == "the environment variable NOPE is not set"
    assert "key.pem" in (shown["cluster.tls_key"].missing or "")
    assert [shown[key].missing is None for key in ("serve.tokens", "cluster.address", "serve.port")] == [
        False,
        False,
        True,
    ]
    assert settings.secret_values() == ()
    with pytest.raises(ConfigError, match="NOPE is not set"):
        settings.metadata_url()
    with pytest.raises(ConfigError, match=r"(?s)5 settings are wrong.*NOPE is not set"):
        load_settings(tmp_path, environ={})
    write(tmp_path, "mlcore.toml", '[metadata]\nurl = "${env:NOPE}${evn:X}"\n')
    with pytest.raises(ConfigError, match='Did you mean "env"'):
        load_settings(tmp_path, environ={}, missing_too=True)


def test_an_unknown_environment_offers_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "env/staging.toml", "")
    with pytest.raises(ConfigError, match='Did you mean "staging"'):
        load_settings(tmp_path, "stagin", environ={})


def test_an_unknown_key_has_no_origin(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'Did you mean "serve\.port"'):
        load_settings(tmp_path, environ={}).origin("serve.prot")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlcore.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"mlcore\.toml.*UTF-8"):
        load_settings(tmp_path, environ={})


def test_what_is_kept_and_a_started_cluster_are_settings_like_others(tmp_path: Path) -> None:
    (tmp_path / "mlcore.toml").write_text(
        '[cluster]\naddress = "started"\n[retention]\nartifacts = "forever"\nversions = 3\n'
    )
    settings = load_settings(tmp_path, environ={"MLCORE_RETENTION_DATASETS": "2w"})

    assert settings.cluster.address == f"started:{tmp_path.resolve()}/.mlcore/cluster.json"
    assert settings.retention.length_us("artifacts") is None
    assert settings.retention.length_us("datasets") == 14 * 86_400_000_000
    assert settings.retention.newest == 3
    assert load_settings(tmp_path, environ={"MLCORE_RETENTION_VERSIONS": "5"}).retention.newest == 5
    assert load_settings(tmp_path, environ={"MLCORE_RETENTION_VERSIONS": "all"}).retention.newest is None
