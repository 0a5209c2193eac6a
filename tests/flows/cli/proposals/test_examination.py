"""Rows that are examined in parts give the findings of all."""

from pathlib import Path
from typing import Any

import pytest

from flows.cli.proposals import examination
from flows.cli.proposals.examination import Examined, examined
from pipeline.core.log import no_log
from pipeline.stages.ingest.stage import ingest
from tests.conftest import make_rows, write_csv
from tests.pipeline.stages.rows import TOPICS, ingest_params, validate_params

RARE = {"text": "a text of a class of its own", "label": "weather"}
ROWS = [
    *make_rows(300),
    {"text": "one text", "label": "sport"},
    {"text": "One  text", "label": "money"},
    {"text": "a bell \x07 rings", "label": "sport"},
    {"text": "a second \x07 bell", "label": "sport"},
    {"text": "nobody labelled this", "label": ""},
    *[{"text": f"said {word}", "label": "Sport"} for word in ("once", "twice", "thrice")],
    make_rows(1)[0],
    RARE,
]


def run(folder: Path, **changes: Any) -> Examined:
    folder.mkdir()
    source = str(write_csv(folder / "a.csv", ROWS))
    ingest(ingest_params(source), TOPICS, folder / "rows")
    return examined(validate_params(**changes), TOPICS, folder / "rows", no_log)


def test_parts_give_the_findings_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "one", near_duplicate="quarantine")
    monkeypatch.setattr(examination, "PART", 60)
    monkeypatch.setattr(examination, "FLUSHED", 10)
    parts = run(tmp_path / "two", near_duplicate="quarantine")
    assert parts.rows == whole.rows == len(ROWS)
    assert {"conflicting_labels", "control_characters", "unlabelled"} <= whole.rules.keys()

    def comparable(found: Examined) -> dict[str, Any]:
        return {
            rule: (each.policy, each.rows, each.refused, each.first.line)
            for rule, each in found.rules.items()
            if rule != "near_duplicate"
        }

    assert comparable(parts) == comparable(whole)
    assert "near copies are left to validate, since the rows are many" in parts.notes
    assert set(whole.notes) < set(parts.notes)
    assert parts.fates.total() == len(ROWS)
    assert parts.fates["duplicate"] == whole.fates["duplicate"]
    assert parts.missing == whole.missing


def test_a_class_is_known_if_any_part_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "PART", 5)
    many = [{"text": f"the weather of day {n}", "label": "weather"} for n in range(40)]
    monkeypatch.setattr("tests.flows.cli.proposals.test_examination.ROWS", [*ROWS, *many])
    assert "unknown_label" not in run(tmp_path / "a").rules


def test_a_class_without_training_rows_is_found_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "PART", 60)
    source = {name: str(tmp_path / f"{name}.csv") for name in ("train", "test")}
    write_csv(Path(source["train"]), make_rows(100))
    write_csv(Path(source["test"]), [RARE, *make_rows(60, seed=1), RARE | {"text": "another"}])
    ingest(ingest_params(source), TOPICS, tmp_path / "rows")
    found = examined(validate_params(), TOPICS, tmp_path / "rows", no_log).rules["unknown_label"]
    assert (found.rows, found.refused) == (2, 2)
    assert str(found.first).endswith("test.csv, line 2: label 'weather' is in no training row")
    assert Path(found.first.file).name == "test.csv"


def test_shortfalls_are_of_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "PART", 60)
    assert not any("min_rows" in note for note in run(tmp_path / "a", min_rows=20).missing)
    assert any("(min_rows)" in note for note in run(tmp_path / "b", min_rows=200).missing)


@pytest.mark.parametrize(("policy", "searched"), [("quarantine", False), ("fail", True)])
def test_near_copies_among_many_rows_are_searched_only_if_they_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, searched: bool
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(
        "pipeline.stages.validate.rules.near_copies", lambda *given: calls.append(given) or {}
    )
    monkeypatch.setattr(examination, "PART", 60)
    notes = run(tmp_path / "a", near_duplicate=policy).notes
    where = "searched within parts of them here" if searched else "left to validate"
    assert notes[-1] == f"near copies are {where}, since the rows are many"
    assert bool(calls) is searched
