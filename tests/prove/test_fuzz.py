"""A thousand damaged files of every reader end in rows, rejects or one line."""

from pathlib import Path

import pytest

from tests.pipeline.sources.test_fuzz import WHOLE, check, spreadsheet

pytestmark = pytest.mark.prove


@pytest.mark.parametrize(("name", "kind"), WHOLE)
def test_damage_is_no_stack_trace(tmp_path: Path, name: str, kind: str | None) -> None:
    check(tmp_path, name, kind, WHOLE[name, kind], 1000)


def test_a_damaged_spreadsheet_is_no_stack_trace(tmp_path: Path) -> None:
    check(tmp_path, "a.xlsx", None, spreadsheet(tmp_path), 1000)
