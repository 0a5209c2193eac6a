"""Data sets of the hub are read by their revision, from its cache where the hub is turned off."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import errors

from pipeline.core.errors import Unavailable, UserError
from pipeline.core.log import FunctionLog
from pipeline.sources import read_rows
from pipeline.sources.remote import local_path
from tests.pipeline.sources.reading import good, write
from tests.pipeline.sources.test_datasets_folder import COLUMNS, dataset

REVISION = "a" * 40
SOURCE = f"hub:someone/rows@{REVISION}"


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a data set in the cache of the hub, which is turned off."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "hub/datasets--someone--rows/snapshots" / REVISION
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("source", ["hub:someone/rows", "hub:someone/rows@", "hub:@main"])
def test_the_hub_needs_a_name_and_a_revision(source: str) -> None:
    with pytest.raises(UserError, match="name the revision as hub:NAME@REVISION"):
        local_path(source)


def test_a_data_set_of_the_hub_is_read_with_its_splits(snapshot: Path) -> None:
    dataset(("a", 0)).to_parquet(snapshot / "data/train-00000-of-00002.parquet")
    dataset(("b", 1)).to_parquet(snapshot / "data/train-00001-of-00002.parquet")
    dataset(("c", -1)).to_parquet(snapshot / "data/test-00000-of-00001.parquet")
    write(snapshot, "dataset_infos.json", b"{}")
    write(snapshot, "README.md", b"# Rows")
    rows = list(read_rows(SOURCE, COLUMNS))
    assert good(rows, COLUMNS) == [
        ("c", "", "test"),
        ("a", "neg", "train"),
        ("b", "pos", "train"),
    ]
    assert rows[0].file == "data/test-00000-of-00001.parquet"


CARD = b"""---
configs:
- config_name: cola
  data_files:
  - {split: train, path: cola/train-*}
  - {split: test, path: cola/dev-*}
- config_name: mrpc
  data_files: mrpc/*
---
# Rows
"""


def configurations(snapshot: Path) -> None:
    dataset(("a", 0)).to_parquet(snapshot / "cola/train-00000-of-00001.parquet")
    dataset(("b", 1)).to_parquet(snapshot / "cola/dev-00000-of-00001.parquet")
    write(snapshot, "mrpc/rows.csv", b"sentence1,sentence2\nc,d\n")


def test_a_configuration_of_a_data_set_has_the_splits_of_its_card(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    configurations(snapshot)
    write(snapshot, "README.md", CARD)
    for _ in range(2):
        rows = list(read_rows(f"{SOURCE}:cola", COLUMNS))
        assert good(rows, COLUMNS) == [("b", "pos", "test"), ("a", "neg", "train")]
    assert rows[0].file == "test/cola/dev-00000-of-00001.parquet"
    own = ("sentence1", "split")
    assert good(list(read_rows(f"{SOURCE}:mrpc", own)), own) == [("c", "train")]


def test_one_of_several_configurations_has_to_be_named(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    configurations(snapshot)
    write(snapshot, "README.md", CARD)
    with pytest.raises(
        UserError, match=rf"has 2 configurations: name one, {SOURCE}:cola \(cola, mrpc\)"
    ):
        local_path(SOURCE)
    with pytest.raises(UserError, match="has no configuration 'cole'; did you mean cola"):
        local_path(f"{SOURCE}:cole")
    write(snapshot, "README.md", CARD.replace(b"name: cola\n", b"name: cola\n  default: true\n"))
    told: list[str] = []
    assert local_path(SOURCE, FunctionLog(told.append)).is_dir()
    assert told == [f"{SOURCE}: its default configuration 'cola' of 2 is read"]


@pytest.mark.parametrize("path", ["../x.csv", "/etc/*", "https://host/x.csv", "[", "3"])
def test_a_card_that_misleads_is_one_line(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    configurations(snapshot)
    write(snapshot, "README.md", CARD.replace(b"mrpc/*", path.encode()))
    with pytest.raises(UserError, match=r"its README\.md cannot be followed: ") as caught:
        local_path(f"{SOURCE}:mrpc")
    assert "\n" not in str(caught.value)
    write(snapshot, "README.md", CARD.replace(b"mrpc/*", b"none/*"))
    with pytest.raises(UserError, match="holds no Parquet, CSV or JSON"):
        local_path(f"{SOURCE}:mrpc")


def test_folders_of_the_hubs_own_conversion_are_configurations(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configurations(snapshot)
    assert good(list(read_rows(f"{SOURCE}:cola", COLUMNS)), COLUMNS) == [
        ("b", "pos", "validation"),
        ("a", "neg", "train"),
    ]
    with pytest.raises(UserError, match="has no configuration 'rte'"):
        local_path(f"{SOURCE}:rte")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **kwargs: str(snapshot))
    with pytest.raises(UserError, match=r"has 2 configurations: name one, .*:cola "):
        local_path("hub:someone/rows@refs/convert/parquet")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dev.csv", b"text,label\na,x\n"),
        ("validation.jsonl", b'{"text": "a", "label": "x"}\n'),
        ("valid/rows.json", b'[{"text": "a", "label": "x"}]'),
    ],
)
def test_text_files_of_a_data_set_are_read(snapshot: Path, name: str, content: bytes) -> None:
    write(snapshot, name, content)
    assert good(list(read_rows(SOURCE, COLUMNS)), COLUMNS) == [("a", "x", "validation")]


def test_a_saved_data_set_on_the_hub_is_read(snapshot: Path) -> None:
    dataset(("a", 0)).save_to_disk(snapshot)
    assert good(list(read_rows(SOURCE, ("text", "label")))) == [("a", "neg")]


def test_a_download_that_was_cut_short_is_refused(snapshot: Path) -> None:
    dataset(("a", 0)).to_parquet(snapshot / "data/train-00000-of-00002.parquet")
    with pytest.raises(UserError, match=r"1 of 2 are missing, the first is 1: download"):
        local_path(SOURCE)


def test_a_script_is_not_run(snapshot: Path) -> None:
    write(snapshot, "rows.py", b"raise SystemExit")
    with pytest.raises(UserError, match="holds no Parquet, CSV or JSON: if a script makes"):
        list(read_rows(SOURCE, COLUMNS))


def test_what_the_cache_lacks_is_one_line(snapshot: Path) -> None:
    source = f"hub:someone/rows@{'b' * 40}"
    with pytest.raises(UserError, match="cannot be downloaded from the hub") as caught:
        local_path(source)
    assert type(caught.value) is UserError


def refusal(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    request = SimpleNamespace(method="GET", url="https://hub")
    response: Any = SimpleNamespace(status_code=status, headers={}, request=request)
    return kind(f"{status} at https://hub/rows?sig=planted", response=response)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (refusal(errors.RepositoryNotFoundError, 404), UserError, "the hub has none: correct"),
        (refusal(errors.RevisionNotFoundError, 404), UserError, "the hub has none: correct"),
        (refusal(errors.GatedRepoError, 403), UserError, "may not be read .*HF_TOKEN"),
        (refusal(errors.HfHubHTTPError, 401), UserError, "may not be read .*HF_TOKEN"),
        (refusal(errors.HfHubHTTPError, 503), Unavailable, "cannot be asked now .*call again"),
        (ConnectionError("no route"), Unavailable, "cannot be asked now .*call again"),
        (OSError(28, "No space left on device"), UserError, "cannot be written"),
        (errors.HFValidationError("a//b is no name"), UserError, "a//b is no name"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_the_hub_refuses_is_one_line(
    error: Exception,
    kind: type[UserError],
    message: str,
    wrapped: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hub's client wraps some errors into that of an entry that its cache lacks."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def fails(*_: Any, **__: Any) -> None:
        if not wrapped or type(error) is not errors.HfHubHTTPError:
            raise error
        raise errors.LocalEntryNotFoundError(f"Got: {error}") from error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    with pytest.raises(UserError, match=message) as caught:
        local_path(SOURCE)
    assert type(caught.value) is kind
    assert "planted" not in str(caught.value)
