"""A version answers with its registered files, or is refused with a reason."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.serving import tuning
from pipeline.serving.tuning import Tuning
from pipeline.serving.version import Version, check_files, open_version, try_out
from pipeline.tasks.base import Answer
from tests.pipeline.serving.toys import CLASSES, make_version, store_answers

TEXT = "goal match striker"


def opened(folder: Path, files: dict[str, str] | None = None, number: str = "1") -> Version:
    return open_version("toy", number, folder, files, 1)


def registered() -> set[str]:
    return {name for name in sys.modules if name.startswith("registered_")}


def stored(version: Version, texts: list[tuple[str, str]], shift: float = 0.0) -> list[Any]:
    return [
        {
            "label": answer.label,
            "score": answer.confidence + shift,
            "scores": {name: score + shift for name, score in answer.scores.items()},
        }
        for answer in version.answer(texts, 8)
    ]


def test_a_version_answers_by_its_own_files(tmp_path: Path) -> None:
    files = make_version(tmp_path / "1")
    version = opened(tmp_path / "1", files)
    (answer,) = version.answer([(TEXT, "")], 8)
    assert (answer.label, version.name, version.classes) == ("sport", "toy/1", CLASSES)
    assert type(answer).__module__.startswith("registered_")
    assert version.model_bytes == (tmp_path / "1" / "artifacts" / "model.onnx").stat().st_size
    try_out(version)
    check_files("toy/1", tmp_path / "1", files)  # opening it has left nothing there


@pytest.mark.parametrize(
    "task",
    [name for name in tasks.known() if tasks.get(name).head != "seq2seq"],  # two graphs in a file
)
def test_a_version_of_any_task_is_tried_out(tmp_path: Path, task: str) -> None:
    files = make_version(tmp_path / "1", task=task)
    version = opened(tmp_path / "1", files)
    try_out(version)
    assert version.two_texts == tasks.get(task).two_texts
    assert len(version.answer([("goal match", "bank")] * 3, 2)) == 3


def test_two_versions_answer_side_by_side(tmp_path: Path) -> None:
    make_version(tmp_path / "1")
    make_version(tmp_path / "2", weight=-1.0)
    one, two = opened(tmp_path / "1"), opened(tmp_path / "2", number="2")
    (right,), (wrong,) = one.answer([(TEXT, "")], 8), two.answer([(TEXT, "")], 8)
    assert right.label == "sport" != wrong.label
    assert type(right) is not type(wrong)


def test_a_version_that_is_dropped_leaves_no_code_behind(tmp_path: Path) -> None:
    make_version(tmp_path / "1")
    before = registered()
    version = opened(tmp_path / "1")
    assert registered() > before
    del version
    assert registered() == before


def _change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "do", "what"),
    [
        ("artifacts/model.onnx", _change, "has changed"),
        ("artifacts/tasks/base/answering.py", _change, "has changed"),
        ("artifacts/tokenizer.json", Path.unlink, "is missing"),
        ("artifacts/tasks/more.py", Path.touch, "is not among its registered files"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, do: Any, what: str) -> None:
    files = make_version(tmp_path / "1")
    do(tmp_path / "1" / name)
    with pytest.raises(UserError, match=f"^{name} of toy/1 {what}: it is not served$"):
        opened(tmp_path / "1", files)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is missing"):
        opened(tmp_path / "nowhere", {})


def test_compiled_files_beside_the_code_are_neither_read_nor_written(tmp_path: Path) -> None:
    files = make_version(tmp_path / "1")
    code = tmp_path / "1" / "artifacts" / "tasks" / "base"
    cache = code / "__pycache__"
    cache.mkdir()
    sound = (code / "answering.py").read_text()
    (code / "answering.py").write_text("raise RuntimeError('it was read')\n")
    import py_compile

    target = cache / f"answering.{sys.implementation.cache_tag}.pyc"
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(code / "answering.py"), str(target), invalidation_mode=unchecked)
    (code / "answering.py").write_text(sound)
    assert opened(tmp_path / "1", files).answer([(TEXT, "")], 8)[0].label == "sport"
    assert [file.name for file in cache.iterdir()] == [target.name]


@pytest.mark.parametrize("name", ["model.onnx", "serving.json", "runtime.py", "tasks/__init__.py"])
def test_a_version_that_cannot_be_loaded_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    make_version(tmp_path / "1")
    (tmp_path / "1" / "artifacts" / name).write_text("no\nsense")
    before = registered()
    with pytest.raises(UserError, match=r"^toy/1 cannot be loaded: \w+"):
        opened(tmp_path / "1")
    assert registered() == before


def test_scores_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    make_version(tmp_path / "1", weight=float("nan"))
    with pytest.raises(UserError, match=r"^toy/1 is not served: its score is not finite"):
        try_out(opened(tmp_path / "1"))


def test_details_that_cannot_be_sent_are_refused(tmp_path: Path) -> None:
    make_version(tmp_path / "1")
    version = opened(tmp_path / "1")
    answers = [Answer("sport", 1.0, {}, {"span": float("inf")})] * 20
    version.answer = lambda texts, size: answers[: len(texts)]  # type: ignore[method-assign]
    with pytest.raises(UserError, match="its details cannot be sent"):
        try_out(version)


def test_a_version_that_raises_is_refused(tmp_path: Path) -> None:
    make_version(tmp_path / "1")
    version = opened(tmp_path / "1")
    version._answering = None
    with pytest.raises(UserError, match=r"^toy/1 is not served: it cannot answer: TypeError"):
        try_out(version)


def test_stored_answers_have_to_come_again(tmp_path: Path) -> None:
    make_version(tmp_path / "1")
    texts = [(TEXT, ""), ("bank shares", "")]
    answers = stored(opened(tmp_path / "1"), texts)
    store_answers(tmp_path / "1", [list(text) for text in texts], answers)
    try_out(opened(tmp_path / "1"))

    answers = stored(opened(tmp_path / "1"), texts, shift=0.015)
    store_answers(tmp_path / "1", [list(text) for text in texts], answers)
    try_out(opened(tmp_path / "1"))

    answers[1]["scores"]["film"] += 0.03
    store_answers(tmp_path / "1", [list(text) for text in texts], answers)
    with pytest.raises(
        UserError, match=r"^toy/1 is not served: it answers text 2 of its smoke.json"
    ):
        try_out(opened(tmp_path / "1"))


def test_another_label_is_the_same_where_both_were_nearly_as_likely(tmp_path: Path) -> None:
    make_version(tmp_path / "1")
    texts = [("goal bank", "")]
    (answer,) = stored(opened(tmp_path / "1"), texts)
    answer["label"] = "money" if answer["label"] == "sport" else "sport"
    store_answers(tmp_path / "1", [["goal bank", ""]], [answer])
    try_out(opened(tmp_path / "1"))
    answer["score"] += 0.03
    store_answers(tmp_path / "1", [["goal bank", ""]], [answer])
    with pytest.raises(UserError, match=r"smoke\.json"):
        try_out(opened(tmp_path / "1"))


def test_a_stored_number_has_to_come_again(tmp_path: Path) -> None:
    make_version(tmp_path / "1", task="regression")
    texts = [("goal bank", ""), (TEXT, "")]
    answers = stored(opened(tmp_path / "1"), texts)
    store_answers(tmp_path / "1", [list(text) for text in texts], answers)
    try_out(opened(tmp_path / "1"))
    answers[1]["label"] = "999.0"
    store_answers(tmp_path / "1", [list(text) for text in texts], answers)
    with pytest.raises(UserError, match=r"it answers text [12] of its smoke\.json"):
        try_out(opened(tmp_path / "1"))


def test_what_is_measured_fits_the_cores_and_is_found_again(tmp_path: Path) -> None:
    make_version(tmp_path / "1")
    threads: list[int] = []

    def open_with(number: int) -> Version:
        threads.append(number)
        return open_version("toy", "1", tmp_path / "1", None, number)

    found, version = tuning.measure(open_with, 2, seconds=0.05)
    assert sorted(threads) == [1, 2]
    assert found.runners * found.threads == 2
    assert version.threads == found.threads
    assert found.at_once in tuning.SIZES
    assert found.batch == max(found.at_once, tuning.FEWEST_ROWS)
    kept = json.loads(json.dumps(tuning.to_json(found, version, 2)))
    assert tuning.from_json(kept, version, 2) == found
    assert tuning.from_json(kept, version, 4) is None
    version.model_bytes *= 2
    assert tuning.from_json(kept, version, 2) is None
    assert tuning.from_json(kept, None, 2) == found


@pytest.mark.parametrize("content", [None, {}, [], "x", {"for": {}}, {"runners": 0}])
def test_what_is_no_tuning_is_measured_anew(content: Any) -> None:
    assert tuning.from_json(content, None, 2) is None


@pytest.mark.parametrize(
    ("quota", "found"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 8), (None, 8)]
)
def test_a_containers_quota_counts_as_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, found: int
) -> None:
    if quota:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(tuning, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert tuning.cores() == found


def test_more_rows_are_taken_only_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    class Same:
        provider, stored, two_texts = tuning.CPU, {}, False  # type: ignore[var-annotated]

        def __init__(self, threads: int) -> None:
            self.threads = threads

    speeds = {1: 960.0, 2: 980.0, 4: 1000.0, 8: 1040.0, 16: 1200.0, 32: 1900.0, 64: 2500.0}
    monkeypatch.setattr(tuning, "rate", lambda version, texts, runners, size, _: speeds[size])
    found, _ = tuning.measure(Same, 2)  # type: ignore[arg-type]
    assert found == Tuning(2, 1, 32, 1900.0, at_once=32)
    speeds[32] = 1000.0
    assert tuning.measure(Same, 2)[0].at_once == 16  # type: ignore[arg-type]
    speeds.update({16: 900.0, 64: 900.0})
    found, _ = tuning.measure(Same, 2)  # type: ignore[arg-type]
    assert (found.at_once, found.batch) == (8, 8)
    speeds[1] = 1100.0  # rows go to the model one by one, but a batch has several
    found, _ = tuning.measure(Same, 2)  # type: ignore[arg-type]
    assert (found.at_once, found.batch) == (1, tuning.FEWEST_ROWS)


def test_a_gpu_is_given_two_runners_whatever_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        provider, stored, two_texts = "CUDAExecutionProvider", {}, True  # type: ignore[var-annotated]

        def __init__(self, threads: int) -> None:
            self.threads = threads

    monkeypatch.setattr(tuning, "rate", lambda version, texts, runners, batch, _: 1000.0 * batch)
    found, _ = tuning.measure(OnGpu, 16)  # type: ignore[arg-type]
    assert (found.runners, found.threads, found.batch) == (2, 1, tuning.SIZES[-1])


def test_a_version_of_a_time_when_tasks_had_no_encoders_is_served(tmp_path: Path) -> None:
    files = make_version(tmp_path / "1")
    wanted = opened(tmp_path / "1", files).answer([(TEXT, "")], 8)[0].label
    code = tmp_path / "1" / "artifacts" / "tasks" / "base" / "__init__.py"
    code.write_text(code.read_text().replace("def encoder(", "def _no_encoder("))
    settings = next((tmp_path / "1").rglob("serving.json"))
    told = json.loads(settings.read_text())
    del told["masking"]
    settings.write_text(json.dumps(told))
    assert opened(tmp_path / "1").answer([(TEXT, "")], 8)[0].label == wanted
