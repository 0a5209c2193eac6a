"""A thousand damaged files of every reader end in rows, rejects or one line."""

import zlib
from pathlib import Path

import pytest

from tests.pipeline.sources.test_fuzz import WHOLE, check, documents, spreadsheet

pytestmark = pytest.mark.prove


@pytest.mark.parametrize(("name", "kind"), WHOLE)
def test_damage_is_no_stack_trace(tmp_path: Path, name: str, kind: str | None) -> None:
    check(tmp_path, name, kind, WHOLE[name, kind], 1000)


def test_a_damaged_spreadsheet_is_no_stack_trace(tmp_path: Path) -> None:
    check(tmp_path, "a.xlsx", None, spreadsheet(tmp_path), 1000)


def test_damaged_documents_are_no_stack_trace(tmp_path: Path) -> None:
    check(tmp_path, "a.spacy", None, zlib.compress(documents()), 1000)
    assert check(tmp_path, "a.spacy", None, documents(), 1000, zlib.compress) > 0
