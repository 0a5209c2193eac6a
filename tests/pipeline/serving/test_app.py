"""Answers over HTTP for every task, and refusals of one line."""

import io
import json
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipeline.serving.feedback import SentFeedback
from pipeline.serving.settings import Limits
from pipeline.tasks.base import Answer
from tests.conftest import ROOT
from tests.pipeline.serving.web import CLASSES, Reply, Site, Toy, toy_answers
from tests.pipeline.tasks.toys import TOYS


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(Toy(3), limits=Limits(characters=50))
    yield site
    site.close()


@pytest.fixture(params=sorted(TOYS))
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, list[Any]]]:
    version, texts = toy_answers(request.param, tmp_path)
    site = Site(version)
    yield site, texts
    site.close()


def row_of(texts: tuple[str, str], pairs: bool) -> dict[str, str]:
    return dict(zip(("text", "second"), texts[: 1 + pairs], strict=False))


def holds(description: dict[str, Any], model: str, value: Any) -> None:
    schema = {"$ref": f"#/components/schemas/{model}", "components": description["components"]}
    Draft202012Validator(schema).validate(value)


# answers


def test_every_tasks_answers_are_as_the_api_describes_them(served: Any) -> None:
    site, texts = served
    version = site.batcher.version
    rows = [row_of(pair, version.two_texts) for pair in texts]
    description = site.get("/openapi.json").value
    for row, pair in zip(rows, texts, strict=True):
        one = site.post("/predict", row)
        assert one.status == 200, one.body
        holds(description, "Prediction", one.value)
        said = version.says(pair)
        assert one.value["label"] == said.label
        assert one.value["details"] == said.details
    many = site.post("/predict/batch", {"rows": rows})
    holds(description, "Predictions", many.value)
    assert [answer["label"] for answer in many.value["answers"]] == [
        version.says(pair).label for pair in texts
    ]
    body = description["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    holds(description, body["schema"]["$ref"].rpartition("/")[2], rows[0])


def test_invocations_are_answered_as_mlflow_answers_them(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.pyfunc.scoring_server import predictions_to_json

    site, texts = served
    version = site.batcher.version
    inputs: list[Any] = [row_of(pair, True) if version.two_texts else pair[0] for pair in texts]
    ours = site.post("/invocations", {"inputs": inputs})
    model = _served_model(monkeypatch, version.two_texts)
    model.answering = lambda given: [version.says(pair) for pair in given]
    theirs = io.StringIO()
    predictions_to_json(model.answered(texts), theirs)
    assert ours.value == json.loads(theirs.getvalue())
    columns = [list(row) for row in json.loads(theirs.getvalue())["predictions"]]
    assert [list(row) for row in ours.value["predictions"]] == columns
    assert ours.headers["x-model-version"] == version.name
    holds(site.get("/openapi.json").value, "Invocations", ours.value)


def _served_model(monkeypatch: pytest.MonkeyPatch, two_texts: bool) -> Any:
    """Load the module that a registered version runs under MLflow."""
    import mlflow.models

    monkeypatch.setattr(mlflow.models, "ModelConfig", lambda: {"two_texts": two_texts})
    monkeypatch.setattr(mlflow.models, "set_model", lambda model: None)
    spec = spec_from_file_location("served", ROOT / "pipeline" / "registry" / "served_model.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "served", module)
    spec.loader.exec_module(module)
    return (module.OfPairs if two_texts else module.OfTexts)()


def test_a_column_that_a_row_has_not_is_null_as_mlflow_pads_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.pyfunc.scoring_server import predictions_to_json

    def says(texts: tuple[str, str]) -> Answer:
        return Answer("money", 0.5, details={"piece": "b"} if texts[0] == "b" else {})

    site.swap(Toy(4, says=says))
    model = _served_model(monkeypatch, False)
    model.answering = lambda given: [says(pair) for pair in given]
    theirs = io.StringIO()
    predictions_to_json(model.answered([("a", ""), ("b", "")]), theirs)
    value = json.loads(theirs.getvalue(), parse_constant=lambda _: None)
    assert site.post("/invocations", {"inputs": ["a", "b"]}).value == value
    assert value["predictions"][0]["piece"] is None


def test_an_answer_names_its_version_and_its_request(site: Site) -> None:
    one = site.post("/predict", {"text": "goal"}, x_request_id="ours-1")
    assert one.value["version"] == "toy/3"
    assert one.value["id"] == one.headers["x-request-id"] == "ours-1"
    for insane in ("", "a b", "a" * 65, 'x"y', "é"):
        made = site.post("/predict", {"text": "goal"}, x_request_id=insane)
        assert made.value["id"] == made.headers["x-request-id"] != insane
    site.swap(Toy(4))
    assert site.post("/predict", {"text": "goal"}).value["version"] == "toy/4"


# states


def test_without_a_version_it_is_alive_and_not_ready() -> None:
    site = Site()
    assert site.get("/healthz").status == 200
    assert site.get("/readyz").status == 503
    assert site.post("/predict", {"text": "a"}).status == 503
    assert "retry-after" in site.post("/predict", {"text": "a"}).headers
    assert site.get("/openapi.json").status == 200
    site.close()


def test_readiness_names_the_versions(site: Site) -> None:
    site.swap(Toy(4))
    site.batcher.refuse("5", "model.onnx of toy/5 has changed")
    told = site.get("/readyz")
    assert told.status == 200
    assert (told.value["version"], told.value["previous"]) == ("toy/4", "toy/3")
    assert told.value["refused"] == {"5": "model.onnx of toy/5 has changed"}
    holds(site.get("/openapi.json").value, "Ready", told.value)
    site.batcher.confirmed = False
    assert site.get("/readyz").status == 503


def test_a_full_queue_refuses_before_the_body_is_read(site: Site) -> None:
    site.batcher._ahead = 10**7
    headers = {"content-type": "application/json"}
    reply = site.loop.run_until_complete(site.asked("POST", "/predict", [None], headers))
    assert reply.status == 429
    assert int(reply.headers["retry-after"]) >= 1


def test_what_the_version_cannot_answer_is_no_stack_trace(site: Site) -> None:
    def says(texts: tuple[str, str]) -> Answer:
        raise RuntimeError(f"cannot stand {texts}")

    site.swap(Toy(4, says=says))
    reply = site.post("/predict", {"text": "unspeakable"})
    assert reply.status == 500
    assert "unspeakable" not in reply.error + site.log.getvalue()


# feedback


def test_a_right_label_is_kept_beside_what_was_answered(site: Site) -> None:
    given = {"text": "goal", "label": "sport", "consent": True, "id": "r-1", "version": "toy/3"}
    reply = site.post("/feedback", given)
    assert reply.value == {"id": "0123456789abcdef", "version": "toy/3", "consent": True}
    assert site.store.kept == [
        SentFeedback("toy/3", "r-1", "goal", "", "sport", True, "money", 0.7)
    ]


def test_what_an_older_version_answered_is_not_made_up(site: Site) -> None:
    given = {"text": "goal", "label": "sport", "consent": False, "version": "toy/1"}
    assert site.post("/feedback", given).status == 200
    assert site.store.kept == [SentFeedback("toy/1", "", "goal", "", "sport", False, None, None)]


def test_feedback_stays_with_the_version_that_it_names_when_another_comes_in(site: Site) -> None:
    async def by_the_next(*_: object) -> tuple[list[Answer], Toy]:
        return [Answer("film", 0.9)], Toy(4)

    site.batcher.answer = by_the_next  # type: ignore[assignment, method-assign]
    given = {"text": "goal", "label": "sport", "consent": True}
    assert site.post("/feedback", given | {"version": "toy/3"}).value["version"] == "toy/3"
    assert site.post("/feedback", given).value["version"] == "toy/4"
    assert [kept.version for kept in site.store.kept] == ["toy/3", "toy/4"]
    answered = [(kept.answered, kept.score) for kept in site.store.kept]
    assert answered == [(None, None), ("film", 0.9)]


@pytest.mark.parametrize("task", ["multilabel", "ner"])
def test_a_label_nested_without_end_is_refused(task: str) -> None:
    site = Site(Toy(1, task))
    given = {"text": "goal", "label": "[" * 5000, "consent": True}
    assert site.post("/feedback", given).status == 422
    site.close()


def test_a_label_is_written_as_the_task_writes_it() -> None:
    site = Site(Toy(1, "multilabel"))
    given = {"text": "goal", "label": "sport, film", "consent": True}
    assert site.post("/feedback", given).status == 200
    assert site.store.kept[0].label == '["film","sport"]'
    site.close()


def test_a_full_disk_is_told_without_the_text(site: Site) -> None:
    site.store.broken = True
    given = {"text": "secret", "label": "sport", "consent": True}
    assert site.post("/feedback", given).status == 503
    assert "No space left" in site.log.getvalue()
    assert "secret" not in site.log.getvalue()


# what the server says of itself


def test_a_line_of_the_log_tells_of_the_request_and_not_of_the_text(site: Site) -> None:
    site.post("/predict", {"text": "a secret bank"}, x_api_key="k", x_request_id="r-1")
    site.get("/a/secret/path")
    one, other = site.lines()
    assert {k: one[k] for k in one if k not in ("time", "ms")} == {
        "id": "r-1",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "rows": 1,
        "characters": 13,
        "version": "toy/3",
    }
    assert other["path"] == "other"
    assert "secret" not in site.log.getvalue()


def test_metrics_count_what_was_answered(site: Site) -> None:
    site.post("/predict/batch", {"rows": [{"text": "a"}, {"text": "b"}]})
    site.post("/predict", {})
    site.get("/wp-admin")
    site.post("/feedback", {"text": "a", "label": "film", "consent": True})
    site.swap(Toy(4))
    site.batcher.refuse("5", "it is broken")
    lines = site.get("/metrics").body.decode().splitlines()
    for line in (
        'bertline_requests_total{route="/predict/batch",status="200"} 1.0',
        'bertline_requests_total{route="/predict",status="422"} 1.0',
        'bertline_requests_total{route="other",status="404"} 1.0',
        'bertline_request_seconds_count{route="/predict/batch"} 1.0',
        "bertline_rows_total 3.0",  # feedback asks again
        "bertline_batch_rows_sum 3.0",
        'bertline_feedback_total{consent="true"} 1.0',
        'bertline_version_info{version="toy/4"} 1.0',
        "bertline_swaps_total 1.0",
        "bertline_refused_versions_total 1.0",
        "bertline_queue_rows 0.0",
    ):
        assert line in lines, line


def test_the_description_says_the_limits_and_the_classes(site: Site) -> None:
    description = site.get("/openapi.json").value
    parts = description["components"]["schemas"]
    assert parts["Text"]["properties"]["text"]["maxLength"] == 50
    assert list(parts["Prediction"]["examples"][0]["scores"]) == CLASSES
    assert set(description["paths"]) == {
        "/predict", "/predict/batch", "/invocations", "/feedback", "/healthz", "/readyz", "/metrics",  # noqa: E501
    }  # fmt: skip
    Draft202012Validator.check_schema(parts["Prediction"])


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_from_this_server_alone(site: Site, path: str) -> None:
    page: Reply = site.get(path)
    assert page.status == 200
    html = page.body.decode()
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "<style" not in html and "style=" not in html and "onclick" not in html
    linked = [part.split('"')[0] for part in html.replace("src=", "href=").split('href="')[1:]]
    for link in linked:
        assert site.get(link).status == 200, link
