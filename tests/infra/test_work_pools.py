"""Base job templates of work pools, checked without a container engine."""

import json
import re
from typing import Any

import pytest

from tests.conftest import ROOT

TEMPLATES = sorted((ROOT / "infra" / "work-pools").glob("*.json"))
PLACEHOLDER = re.compile(r"\{\{ (\w+) \}\}")


@pytest.fixture(params=TEMPLATES, ids=lambda path: path.stem)
def template(request: pytest.FixtureRequest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return content


def test_there_is_one_for_docker_and_one_for_kubernetes() -> None:
    assert [path.stem for path in TEMPLATES] == ["docker", "kubernetes"]


def test_every_variable_is_declared_and_used(template: dict[str, Any]) -> None:
    used = set(PLACEHOLDER.findall(json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"])


def test_every_variable_has_a_type_and_a_description(template: dict[str, Any]) -> None:
    for name, variable in template["variables"]["properties"].items():
        assert variable["type"] and variable["description"].endswith("."), name


def test_the_folder_of_a_deployment_is_the_one_thing_that_must_be_given(
    template: dict[str, Any],
) -> None:
    assert template["variables"]["required"] == ["working_dir"]


def test_secrets_of_the_worker_stay_out_of_the_plain_environment(template: dict[str, Any]) -> None:
    plain = template["variables"]["properties"]["env"]["default"]
    assert {name for name, value in plain.items() if value is None} == {
        "PREFECT_API_AUTH_STRING",
        "PREFECT_API_KEY",
    }
