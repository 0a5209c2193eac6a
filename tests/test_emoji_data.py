"""The converter of the recipe `emoji`."""

import csv
import json
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import emoji_data


def test_names_get_their_group_and_parts_of_emoji_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, out = tmp_path / "package", tmp_path / "data" / "emoji.csv"
    names = {
        "en": [
            {"label": "regional indicator A", "hexcode": "1F1E6"},
            {"label": "pizza", "hexcode": "1F355", "group": 1},
            {"label": "red hair", "hexcode": "1F9B0", "group": 0},
        ],
        "ja": [{"label": "ピザ", "hexcode": "1F355", "group": 1}],
    }
    write(package / "meta" / "groups.json", {"groups": {"0": "component", "1": "food-drink"}})
    for language in emoji_data.LANGUAGES:
        write(package / language / "data.json", names.get(language, []))
    monkeypatch.setattr(sys, "argv", ["emoji_data.py", str(package), str(out)])
    emoji_data.main()
    with out.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"emoji": "1F355", "language": "en", "name": "pizza", "group": "food-drink"},
            {"emoji": "1F355", "language": "ja", "name": "ピザ", "group": "food-drink"},
        ]


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
