"""``mlcore cache``: what is kept, what goes, and what must stay."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mlflow_core.cli.boundary import run
from mlflow_core.engine.files.entries import write_entry
from mlflow_core.engine.layouts.cache import Cache


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A project whose cache holds three entries, used a day after each other long ago."""
    (tmp_path / "mlcore.toml").write_text('[project]\nname = "stalls"\n[cache]\nsize = "2 KiB"\n')
    folder = tmp_path / ".mlcore" / "layouts"
    for number in range(3):
        facts = {
            "kind": "layout",
            "source": "sales",
            "part": f"{number}.parquet",
            "columns": ["sold"],
            "rows": 9,
        }
        entry = folder / f"entry{number}"
        write_entry(
            entry, lambda draft, facts=facts: (draft / "rows.arrow").write_bytes(bytes(1_024)) and facts
        )
        os.utime(entry / "entry.json", (number * 86_400.0,) * 2)
    return tmp_path


def asked(capsys, root: Path, *words: str) -> dict:
    assert run(["--root", str(root), "--json", "cache", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_is_kept_is_listed_with_its_source_and_size(kept, capsys):
    assert run(["--root", str(kept), "cache", "list"]) == 0
    shown = capsys.readouterr().out
    for word in ("sales", "2.parquet", "1.0 KiB", "3 entries, 3.0 KiB of 2 KiB"):
        assert word in shown

    found = asked(capsys, kept, "list")
    assert [(one["part"], one["bytes"], one["in_use"]) for one in found] == [
        (f"{number}.parquet", 1_024, False) for number in range(3)
    ]


def test_cleaning_goes_down_to_the_limit_and_the_longest_unused_goes_first(kept, capsys):
    done = asked(capsys, kept, "clean")

    assert [one["part"] for one in done["removed"]] == ["0.parquet"]
    assert (done["bytes"], done["left"]) == (1_024, 2)


@pytest.mark.parametrize(
    ("words", "left"),
    [(["--all"], 0), (["--to", "1KiB"], 1), (["--older-than", "1d"], 0), (["--older-than", "9000w"], 3)],
)
def test_cleaning_takes_what_the_options_say(kept, capsys, words, left):
    assert asked(capsys, kept, "clean", *words)["left"] == left


def test_what_a_retrieval_uses_is_not_cleaned(kept, capsys):
    with Cache(kept / ".mlcore" / "layouts").leased(["entry0"]):
        done = asked(capsys, kept, "clean", "--all")

    assert (done["left"], done["in_use"]) == (1, 1)


def test_a_wrong_size_or_two_ways_to_clean_are_refused(kept, capsys):
    assert run(["--root", str(kept), "cache", "clean", "--to", "much"]) == 2
    assert '"much" is no size' in capsys.readouterr().err
    assert run(["--root", str(kept), "cache", "clean", "--all", "--to", "1KiB"]) == 2
    assert "only one of" in capsys.readouterr().err
    (kept / "mlcore.toml").write_text('[cache]\nsize = "20 apples"\n')
    assert run(["--root", str(kept), "cache", "list"]) == 2
    assert "cache.size" in capsys.readouterr().err


def test_the_settings_of_the_cache_are_shown_with_their_origin(kept, capsys):
    assert run(["--root", str(kept), "--json", "config", "show", "--origin"]) == 0
    found = {one["key"]: one for one in json.loads(capsys.readouterr().out)}

    assert found["cache.size"] == {"key": "cache.size", "value": "2 KiB", "origin": "mlcore.toml"}
    assert found["cache.location"]["value"] == str(kept / ".mlcore" / "layouts")
    assert found["cache.location"]["origin"] == "default"
