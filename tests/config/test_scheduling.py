"""Which views the scheduler materialises, as the settings say it: in a file, in the environment, wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_core.config import load_settings
from mlflow_core.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "meant"),
    [("", False), ("materialize = true", True), ('materialize = ["a", "b"]', ("a", "b"))],
)
def test_all_views_those_that_are_named_or_none(
    tmp_path: Path, written: str, meant: bool | tuple[str, ...]
) -> None:
    (tmp_path / "mlcore.toml").write_text(f"[schedule]\n{written}\n")

    assert load_settings(tmp_path, environ={}).schedule.materialize == meant


@pytest.mark.parametrize(("text", "meant"), [("true", True), ("False", False), ("a, b", ("a", "b"))])
def test_the_environment_says_it_as_text(tmp_path: Path, text: str, meant: bool | tuple[str, ...]) -> None:
    settings = load_settings(tmp_path, environ={"MLCORE_SCHEDULE_MATERIALIZE": text})

    assert settings.schedule.materialize == meant


def test_what_is_neither_is_told_with_its_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "mlcore.toml").write_text("[schedule]\nmaterialize = 7\n")

    with pytest.raises(ConfigError, match=r"mlcore.toml: schedule.materialize: 7"):
        load_settings(tmp_path, environ={})
