"""Findings on rows: what every rule flags, what stops a run, and the one line that tells it all."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.log import FunctionLog
from pipeline.stages.ingest.stage import ingest
from pipeline.stages.validate.findings import Examination, Place, examine, findings
from pipeline.stages.validate.stage import validate
from pipeline.tasks.base import Task
from tests.conftest import make_rows, write_csv
from tests.pipeline.stages.rows import TOPICS, ingest_params, validate_params

SOUND = make_rows(200)
Rows = list[dict[str, str]]
BAD = [
    *[row | {"label": ""} for row in make_rows(4, seed=9)],
    {"text": " \u3000", "label": "film"},
    {"text": "a nul \x00 byte", "label": "film"},
    {"text": "long " * 100, "label": "film"},
    SOUND[5],
    {"text": SOUND[0]["text"], "label": "film" if SOUND[0]["label"] != "film" else "money"},
    {"text": "rain and wind", "label": "weather"},
]


def taken(tmp_path: Path, rows: Rows, **changes: Any) -> Path:
    source = str(write_csv(tmp_path / "a.csv", rows))
    ingest(ingest_params(source, **changes), TOPICS, tmp_path / "ingest")
    return tmp_path / "ingest"


def examined(tmp_path: Path, rows: Rows, task: Task = TOPICS, **changes: Any) -> Examination:
    return examine(validate_params(**changes), task, taken(tmp_path, rows))


def refused(tmp_path: Path, rows: Rows, **changes: Any) -> str:
    """Return the one line that validate refuses rows with."""
    folder = taken(tmp_path, rows)
    with pytest.raises(UserError) as caught:
        validate(validate_params(**changes), TOPICS, folder, tmp_path / "validate")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_finding_holds_rule_policy_share_and_first_rows(tmp_path: Path) -> None:
    rows = [*SOUND, *[{"text": f"a text {place}", "label": ""} for place in range(5)]]
    changes = {"unlabelled": "quarantine", "max_quarantine_percent": 50.0}
    [found] = findings(taken(tmp_path, rows), validate_params(**changes), TOPICS)
    assert (found.rule, found.policy, found.rows) == ("unlabelled", "quarantine", 5)
    assert found.share == pytest.approx(5 / 205)
    assert (found.refused, found.stops) == (0, False)
    file = str(tmp_path / "a.csv")
    assert found.first == [Place(file, line, "no label") for line in (202, 203, 204)]


def test_sound_rows_have_no_finding(tmp_path: Path) -> None:
    found = examined(tmp_path, SOUND)
    assert found.findings() == found.shortfalls() == found.notes() == []


def test_all_rules_that_stop_a_run_are_named_at_once(tmp_path: Path) -> None:
    labels = ["film", "money", "sport"]
    told = refused(tmp_path, [*SOUND, *BAD], max_characters=400, labels=labels)
    found = examined(tmp_path, [*SOUND, *BAD], max_characters=400, labels=labels)
    stops = [each for each in found.findings() if each.stops]
    assert told.startswith("7 rules stop the run: unlabelled 4 rows, first ")
    assert len(stops) == 7
    for each in stops:
        assert f"{each.rule} {each.refused} row" in told
    for each in stops[:4]:
        assert str(each.first[0]) in told
    assert told.endswith("duplicate of validate.rules to quarantine")
    assert len(told) < 1500


def test_a_row_that_another_rule_sets_aside_stops_nothing(tmp_path: Path) -> None:
    rows = [*SOUND, {"text": "long " * 100, "label": ""}]
    found = examined(tmp_path, rows, unlabelled="quarantine", max_characters=400)
    assert [(each.rule, each.rows, each.stops) for each in found.findings()] == [
        ("unlabelled", 1, False),
        ("too_long", 1, False),
    ]


def test_a_copy_is_named_with_the_row_it_is_a_copy_of(tmp_path: Path) -> None:
    other = BAD[8]["label"]
    found = {each.rule: each for each in examined(tmp_path, [*SOUND, *BAD[7:9]]).findings()}
    file = tmp_path / "a.csv"
    assert str(found["duplicate"].first[0]) == f"{file}, line 202: duplicate of line 7"
    assert found["conflicting_labels"].first[0].reason == (
        f"conflicting labels, {SOUND[0]['label']!r} and {other!r} in line 203"
    )


def test_a_class_beside_one_that_looks_like_it_is_told(tmp_path: Path) -> None:
    rows = [*SOUND, {"text": "a text of its own", "label": "Sport."}]
    told = refused(tmp_path, rows, labels=["film", "money", "sport"])
    assert "label 'Sport.' is not in validate.labels or in no training row; 'sport' is" in told


def test_quarantine_is_no_advice_where_it_would_take_too_many_rows(tmp_path: Path) -> None:
    rows = [row | {"label": ""} if place % 2 else row for place, row in enumerate(SOUND)]
    told = refused(tmp_path, rows)
    assert "to quarantine" not in told
    assert told.endswith(
        "to set them aside would cost 50 % of the rows, more than validate.max_quarantine_percent"
    )


def test_what_took_the_rows_is_named_with_its_first_row(tmp_path: Path) -> None:
    """Rows of a column of numbers, taken for texts, are copies of each other."""
    rows = [row | {"text": str(place % 4)} for place, row in enumerate(SOUND)]
    changes = {"duplicate": "quarantine", "conflicting_labels": "warn"}
    told = refused(tmp_path, rows, **changes)
    file = tmp_path / "a.csv"
    assert "4 rows are left of at least 180: 98 % of all rows, more than" in told
    assert f"(most by duplicate: 196, first {file}, line 6: duplicate of line 2)" in told
    assert "validation rows of at least 5 (min_rows)" in told
    assert told.count("most by") == 1


@pytest.mark.parametrize(
    ("rows", "changes"),
    [
        (SOUND, {"min_rows": 100}),
        (SOUND[:1], {}),
        (SOUND[:3], {"min_rows": 1}),
        ([row | {"label": "film"} for row in SOUND], {"min_rows": 50}),
        ([*SOUND, *SOUND[:60]], {"duplicate": "quarantine"}),
    ],
)
def test_what_is_foreseen_is_what_the_expectations_find(
    tmp_path: Path, rows: Rows, changes: dict[str, Any]
) -> None:
    foreseen = examined(tmp_path, rows, **changes).shortfalls()
    told = refused(tmp_path, rows, **changes)
    assert foreseen
    assert f"kept: {'; '.join(foreseen)}: fix the data" in told


def test_notes_on_classes_are_logged_and_stop_nothing(tmp_path: Path) -> None:
    rows = [row | {"label": "Sport"} if place == 0 else row for place, row in enumerate(SOUND)]
    folder, lines = taken(tmp_path, rows), list[str]()
    changes = {"unknown_label": "quarantine"}
    log = FunctionLog(lines.append)
    validate(validate_params(**changes), TOPICS, folder, tmp_path / "validate", log=log)
    assert any("'Sport' (1 row) differ by case only" in line for line in lines)


def test_classes_of_lists_are_counted_by_row(tmp_path: Path) -> None:
    task = tasks.get("multilabel")
    rows = [
        row | {"label": json.dumps(["news", f"{row['label']}{'.' * (place % 2)}"])}
        for place, row in enumerate(SOUND)
    ]
    source = str(write_csv(tmp_path / "a.csv", rows))
    ingest(ingest_params(source), task, tmp_path / "ingest")
    notes = examine(validate_params(), task, tmp_path / "ingest").notes()
    assert len(notes) == 3
    assert all("differ by a full stop only" in note for note in notes)
