"""Feedback is stored completely, also by parallel writers, and texts only with consent."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.core.log import FunctionLog, Log, no_log
from pipeline.core.text import content_id, join_texts
from pipeline.serving.feedback import Feedback, SentFeedback, Store, drop, file_of, numbered

QUOTE = '[[4,"a late goal"]]'


def send(store: Store, text: str = "a late goal", **changes: Any) -> str:
    values = {
        "version": "toy/3",
        "request": "r1",
        "text": text,
        "second": "",
        "label": "sport",
        "consent": True,
        "answered": "money",
        "score": 0.4,
    }
    return store.add(SentFeedback(**{**values, **changes}))


def read(folder: Path, recipe: str, log: Log = no_log) -> list[Feedback]:
    return [feedback for _, feedback in numbered(file_of(folder, recipe), log=log)]


def test_what_is_sent_is_read_as_it_was(tmp_path: Path) -> None:
    name = send(Store(tmp_path, "toy"), "Tor!\nNoch\u2028eins \N{SOCCER BALL}", second="zwei")
    [feedback] = read(tmp_path, "toy")
    assert feedback.text == "Tor!\nNoch\u2028eins \N{SOCCER BALL}"
    assert feedback.id == name == content_id(join_texts(feedback.text, "zwei"))
    told = feedback.model_dump(exclude={"id", "when", "text", "second"})
    assert told == {
        "request": "r1",
        "version": "toy/3",
        "consent": True,
        "label": "sport",
        "answered": "money",
        "score": 0.4,
    }
    assert feedback.when.endswith("+00:00")


def test_the_file_is_its_owners(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        send(Store(tmp_path / "new", "toy"))
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "toy.jsonl").stat().st_mode & 0o777 == 0o600


def test_without_consent_no_text_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    name = send(store, "a late goal", second="and a red card", consent=False, score=None)
    content = store.path.read_text()
    assert "goal" not in content and "card" not in content
    [feedback] = read(tmp_path, "toy")
    assert (feedback.id, feedback.label, feedback.answered) == (name, "sport", "money")


@pytest.mark.parametrize(("label", "answered"), [(QUOTE, "[]"), ("[]", QUOTE), (QUOTE, None)])
def test_without_consent_no_label_quotes_the_text(
    tmp_path: Path, label: str, answered: str | None
) -> None:
    texts = {"text": "what fell?", "second": "and a late goal fell"}
    store = Store(tmp_path, "toy")
    send(store, consent=False, label=label, answered=answered, **texts)
    assert "goal" not in store.path.read_text()
    send(store, consent=True, label=label, answered=answered, **texts)
    *_, feedback = read(tmp_path, "toy")
    assert (feedback.label, feedback.answered) == (label, answered)


def test_spans_are_no_quotes(tmp_path: Path) -> None:
    send(Store(tmp_path, "toy"), consent=False, label='[[2,6,"ACT"]]')
    [feedback] = read(tmp_path, "toy")
    assert feedback.label == '[[2,6,"ACT"]]'


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    send(store)
    with store.path.open("a") as file:
        file.write('{"id": "x", "consent": "perhaps"}\n')
    with pytest.raises(UserError, match=r"toy\.jsonl, line 2: .*fix or delete that line") as told:
        list(read(tmp_path, "toy"))
    assert "\n" not in str(told.value)


def test_a_cut_line_is_told_and_costs_no_other(tmp_path: Path) -> None:
    store, told = Store(tmp_path, "toy"), list[str]()
    send(store, "one")
    whole = store.path.read_bytes()
    store.path.write_bytes(whole + whole[:-20])
    assert [each.text for each in read(tmp_path, "toy", log=FunctionLog(told.append))] == ["one"]
    send(store, "two")
    assert [each.text for each in read(tmp_path, "toy", log=FunctionLog(told.append))] == [
        "one",
        "two",
    ]
    assert told == [f"{store.path}, line 2: is incomplete: it is skipped"] * 2


def test_nothing_sent_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"toy\.jsonl: no such file"):
        list(read(tmp_path, "toy"))


def test_what_is_no_text_leaves_no_line(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    for changes in ({"label": "\ud800"}, {"score": float("nan")}):
        with pytest.raises(ValueError):
            send(store, **changes)
    assert not store.path.exists()


WRITER = """
import sys
from pathlib import Path
from pipeline.serving.feedback import SentFeedback, Store
store = Store(Path(sys.argv[1]), "toy")
for i in range(40):
    text = sys.argv[2] * 5000 + str(i)
    store.add(SentFeedback("toy/1", "", text, "", "sport", True, None, None))
"""


def test_writers_do_not_cut_each_other_while_lines_are_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    name = send(store, "to be forgotten").encode()
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        drop(store.path, lambda line: name in line)
        time.sleep(0.002)
    assert [writer.wait() for writer in writers] == [0, 0]
    texts = [each.text for each in read(tmp_path, "toy")]
    assert sorted(texts) == sorted(letter * 5000 + str(i) for letter in "ab" for i in range(40))
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_dropped_lines_leave_the_others_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "toy.jsonl"
    path.write_bytes(b'{"a":1}\r\n\n{"b": 2}\ncut')
    path.chmod(0o644)
    drop(path, lambda line: b"b" in line)
    assert path.read_bytes() == b'{"a":1}\r\n\ncut'
    assert path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["toy.jsonl"]


def test_a_line_has_these_fields(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    send(store)
    assert list(json.loads(store.path.read_text())) == list(Feedback.model_fields)
