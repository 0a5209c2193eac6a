"""Rows of the recipe `emoji`, from the npm package emojibase-data.

    npm pack emojibase-data@17.0.0 && tar xzf emojibase-data-17.0.0.tgz
    python bench/emoji_data.py package data/raw/emoji/emoji.csv

Each row is an emoji's name in a language, with its group. Components (skin tones and hair) and
letters of flags are left out: they are parts of emoji.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path

LANGUAGES = ["de", "en", "es", "fr", "hi", "it", "ja", "ko", "pl", "pt", "ru", "th", "vi", "zh"]
COLUMNS = ("emoji", "language", "name", "group")
PARTS = "component"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("package", type=Path, help="the unpacked package")
    parser.add_argument("out", type=Path, help="the file that is written")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", encoding="utf-8", newline="") as file:
        written = csv.writer(file)
        written.writerow(COLUMNS)
        written.writerows(rows(args.package))


def rows(package: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield the values of `COLUMNS` for each language and emoji."""
    groups = json.loads((package / "meta" / "groups.json").read_text())["groups"]
    for language in LANGUAGES:
        for each in json.loads((package / language / "data.json").read_text("utf-8")):
            group = groups.get(str(each.get("group")), PARTS)
            if group != PARTS:
                yield each["hexcode"], language, each["label"], group


if __name__ == "__main__":
    main()
