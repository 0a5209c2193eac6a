"""A registered version goes to the hub, or to a folder, with its card and nothing else."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from flows.cli import main
from pipeline.core.errors import UserError
from pipeline.core.records import Benchmark
from pipeline.registry.versions import Registry
from tests.pipeline.conftest import Home
from tests.pipeline.registry.toys import publish_toy

LICENSED = ["--licence", "apache-2.0"]


@pytest.fixture
def registry(line: Home, tracking: str, tmp_path: Path) -> Registry:
    """A published toy, in the test's folder."""
    number = publish_toy(line, tracking, tmp_path).version
    registry = Registry(tracking)
    registry.move("toy", number)
    return registry


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.usefixtures("registry")
def test_the_judged_model_is_laid_out_as_the_hub_has_it(line: Home, tmp_path: Path) -> None:
    assert main.main(["push", "toy@champion", "out", *LICENSED, "--base-model", "org/base"]) == 0
    picked = Benchmark.read(line.benchmark / "benchmark.json")
    file = picked.candidate(picked.picked).file
    assert {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()} == {
        *("README.md", "config.json", "serving.json", "tokenizer.json", "tokenizer_config.json"),
        file,
    }
    assert file
    assert (tmp_path / "out" / file).read_bytes() == (line.export / file).read_bytes()
    card: Any = ModelCard.load("out/README.md")
    assert (card.data.license, card.data.base_model) == ("apache-2.0", "org/base")
    assert card.data.library_name == "onnx"
    assert 'await AutoModelForSequenceClassification.from_pretrained("out"' in card.text
    assert card.data.eval_results


@pytest.mark.usefixtures("registry")
def test_the_weights_are_pushed_if_they_are_the_versions(
    line: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForSequenceClassification

    command = ["push", "toy/1", "out", *LICENSED, "--format", "pytorch"]
    assert main.main(command) == 2
    assert told(capsys) == (
        "error: data/toy/finetune/model: does not hold the weights of toy/1: bring them back"
        " with git checkout of its commit and dvc checkout finetune@toy"
    )
    assert not Path("out").exists()
    shutil.copytree(line.finetune / "model", "data/toy/finetune/model")
    assert main.main(command) == 0
    AutoModelForSequenceClassification.from_pretrained("out")
    text = Path("out/README.md").read_text()
    assert 'AutoModelForSequenceClassification.from_pretrained("out")' in text
    assert ModelCard(text).data.library_name == "transformers"


class Hub:
    """A hub that keeps what it gets, or refuses it."""

    endpoint = "https://hub.test"

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.calls = error, []  # type: ignore[var-annotated]

    def create_repo(self, name: str, **given: Any) -> None:
        if self.error:
            raise self.error
        self.calls.append((name, given))

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        files = sorted(path.name for path in Path(folder_path).rglob("*") if path.is_file())
        self.calls.append((repo_id, files, commit_message))


@pytest.mark.usefixtures("registry")
def test_the_hub_gets_one_commit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    assert main.main(["push", "toy/1", "hub:org/toy", *LICENSED, "--private"]) == 0
    assert capsys.readouterr().out.strip() == "https://hub.test/org/toy"
    (name, given), (where, files, message) = hub.calls
    assert (name, where, given) == ("org/toy", "org/toy", {"private": True, "exist_ok": True})
    assert {"README.md", "config.json", "tokenizer.json"} <= {*files}
    assert message == "toy/1 of bertline"


def refused(status: int) -> HfHubHTTPError:
    import httpx

    response = httpx.Response(status, request=httpx.Request("POST", "https://hub.test"))
    return HfHubHTTPError(f"{status} of the hub\nmore", response=response)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (LocalTokenNotFoundError("x"), "needs a token: set HF_TOKEN in the environment"),
        (refused(403), "the hub refuses this token (403): set HF_TOKEN"),
        (refused(503), "503 of the hub"),
        (ConnectionError("no route"), "the hub does not answer: no route"),
    ],
)
def test_a_hub_that_refuses_is_one_line(
    error: Exception,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: Hub(error))
    assert main.main(["push", "toy/1", "hub:org/toy", *LICENSED]) == 2
    assert expected in told(capsys)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["toy/1", "hub:toy", *LICENSED], "hub:toy: write hub:ORG/NAME"),
        (["toy/1", ".", *LICENSED], ".: exists already: name a new folder"),
        (["toy/7", "out", *LICENSED], "toy/7: no such version; there are 1"),
        (["toy/1", "out"], "missing option '--licence'"),
    ],
)
@pytest.mark.usefixtures("registry")
def test_what_cannot_be_pushed_is_one_line(
    command: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["push", *command]) == 2
    assert expected in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_changed_or_earlier_version_is_refused(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = registry.folder("toy", "1")
    settings = folder / "artifacts" / "serving.json"
    content = settings.read_text()
    settings.write_text("{}")
    assert main.main(["push", "toy/1", "out", *LICENSED]) == 2
    assert "artifacts/serving.json of toy/1 has changed: it is not pushed" in told(capsys)
    settings.write_text(content)
    (folder / "artifacts" / "config.json").rename(folder / "artifacts" / "gone")
    registry.damage = lambda *_: []  # type: ignore[method-assign]
    from flows.cli.push import Push, push

    with pytest.raises(UserError, match=r"toy/1: was registered without config\.json"):
        push(registry, Push("toy", "1", "mit", None, "onnx"), "out", private=False)
