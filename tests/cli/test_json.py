"""What every command prints on a small real project: JSON as its schema says, to the last field, and text for a pipe.

The story in ``tests/cli/story.py`` is told once; these tests look at what was printed.
"""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource

from mlflow_core.cli.schemas import SHARED, commands_with_schema, read_schema
from mlflow_core.errors import UnknownNameError
from tests.cli.story import SILENT, STORY, call, tell
from tests.house.test_commands import commands

COMMANDS = sorted(path for path, _ in commands())


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the commands of the story printed."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("story")
        patch.chdir(folder)
        return tell(STORY, folder)


def strict(schema):
    """The same schema, but an object has no other fields than those it names: what is printed has to be documented."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(one) for key, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        closed.setdefault("additionalProperties", False)
    return closed


def validator(name):
    schemas = [strict(read_schema(one)) for one in (*commands_with_schema(), *SHARED)]
    registry = Registry().with_resources([(one["$id"], Resource.from_contents(one)) for one in schemas])
    return Draft202012Validator(strict(read_schema(name)), registry=registry)


def test_every_command_has_a_schema_or_a_reason_to_print_none():
    assert set(commands_with_schema()) == set(COMMANDS) - set(SILENT)
    assert set(SILENT) <= set(COMMANDS)


def test_the_story_calls_every_command_that_has_a_schema():
    assert {chapter.command for chapter in STORY} == set(commands_with_schema())


@pytest.mark.parametrize("name", [*commands_with_schema(), *SHARED])
def test_a_schema_is_one_of_2020_12_and_carries_version_and_command(name):
    schema = read_schema(name)

    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:mlcore:json:1:{name.replace(' ', '.')}"
    assert name in SHARED or schema["title"] == f"mlcore {name} --json"


@pytest.mark.parametrize("command", commands_with_schema())
def test_what_a_command_prints_is_what_its_schema_says(command, told):
    for answer in told.answers[command]:
        wrong = best_match(validator(command).iter_errors(answer))
        assert wrong is None, f"{wrong.json_path}: {wrong.message}"


def test_a_training_says_where_its_time_went_if_it_is_asked(told):
    spent = told.answers["train"][0]["profile"]

    assert {"decoding", "data", "computing", "communication", "total"} <= spent.keys()
    assert 0 < spent["computing"] <= spent["total"]
    lines = told.texts["train"][0].splitlines()
    assert lines[lines.index("where the training's time went:") + 1].split()[2] == "s"


def test_text_is_readable_in_a_pipe_80_columns_no_colours_no_spinners(told):
    assert {"train", "runs show", "models lineage", "dataset show"} <= set(told.texts)
    for command, texts in told.texts.items():
        for text in texts:
            assert "\x1b" not in text, command
            assert "\r" not in text, command
            # What is one word, a path or a digest, is not torn.
            wide = [line for line in text.splitlines() if len(line) > 80 and len(line.split()) > 1]
            assert [line for line in wide if not line.startswith(("warning: ", "$ "))] == [], command


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        (["runs", "show", "no-such-run"], "UnknownNameError", 2),
        (["runs", "shows"], "UsageError", 2),
        (["serve", "--port", "many"], "UsageError", 2),
        (["features", "get", "sped", "depot=north"], None, 2),
        (["db", "--unknown"], "UsageError", 2),
    ],
)
def test_a_failure_is_one_line_that_the_schema_of_errors_holds(words, kind, code, told, tmp_path):
    ended, out, err = call("--json", "--root", str(tmp_path), *words)

    answer = json.loads(err)
    assert (ended, out, len(err.splitlines())) == (answer["error"]["exit_code"], "", 1)
    assert ended == code or kind is None
    assert kind is None or answer["error"]["type"] == kind
    assert list(validator("error").iter_errors(answer)) == []


def test_a_field_that_no_schema_names_is_found():
    answer = {"shell": "bash", "script": "", "more": 1}

    assert [one.message for one in validator("completion").iter_errors(answer)] == [
        "Additional properties are not allowed ('more' was unexpected)"
    ]


def test_a_schema_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match='Did you mean "runs list"'):
        read_schema("runs lst")


def test_the_page_lists_every_command_with_its_schema(repository):
    page = (repository / "docs" / "json.md").read_text()
    listed = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `mlcore ")}

    assert listed == {f"mlcore {command}" for command in commands_with_schema()}
