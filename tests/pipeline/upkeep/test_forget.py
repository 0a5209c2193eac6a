"""The rows leave sources, cache, runs and Prefect; everything else stays as it was."""

import hashlib
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.core.text import content_id, join_texts
from pipeline.registry import artifacts as mlflow_files
from pipeline.registry.tags import RECORDS_TAG
from pipeline.sources import PLAIN, Layout
from pipeline.upkeep import forget, fsck
from pipeline.upkeep.cache import md5_of
from pipeline.upkeep.forget import Step
from pipeline.upkeep.rows import Forgotten
from tests.pipeline.upkeep.conftest import Shop, rows_table

TEXT = "My name is Marigold Featherstonehaugh and this is my letter"
OTHER = "Another letter, by somebody else"
NAME = content_id(TEXT)
ROWS = [OTHER, TEXT, 'A "quoted"\nletter', TEXT, "ok"]


@pytest.fixture
def forgotten() -> Forgotten:
    return Forgotten.of([NAME], [TEXT], [OTHER])


def act(steps: list[Step]) -> list[str]:
    for step in steps:
        step.go()
    return [step.what for step in steps]


def hash_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def take_out(source: str, root: Path) -> list[str]:
    found = forget.find({NAME}, {source: PLAIN}, ("text",), [])
    assert found.texts == {NAME: TEXT}
    return act(forget.source_steps(found.places, root, {source: PLAIN}))


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_csv_keeps_its_other_rows_byte_for_byte(tmp_path: Path, ending: str, start: str) -> None:
    import csv

    def written(texts: list[str]) -> bytes:
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator=ending)
        writer.writerows([("n", "text"), *((str(i % 2), text) for i, text in enumerate(texts))])
        return (start + stream.getvalue() + ending).encode()

    path = tmp_path / "rows.csv"
    path.write_bytes(written(ROWS))
    assert take_out(str(path), tmp_path) == [f"rewrite {path} without 2 rows"]
    left = path.read_bytes()
    assert TEXT.encode() not in left
    lines = written(ROWS).split(ending.encode())
    assert left == ending.encode().join(line for line in lines if TEXT.encode() not in line)


def test_json_lines_keep_their_other_rows_byte_for_byte(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text, "ü": 1}) + "\n" for text in ROWS] + ["not json\n", "\n"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(lines))
    take_out(str(path), tmp_path)
    assert path.read_text() == "".join(line for line in lines if TEXT not in line)


def test_a_table_keeps_its_other_rows_and_its_shape(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    table = pa.table({"text": ROWS * 2, "n": range(10)})
    pq.write_table(table, path, row_group_size=3, compression="gzip")
    take_out(str(path), tmp_path)
    left = pq.read_table(path)
    assert left.to_pylist() == [row for row in table.to_pylist() if row["text"] != TEXT]
    assert left.schema == table.schema
    assert pq.read_metadata(path).row_group(0).column(0).compression == "GZIP"


def test_a_folder_loses_the_files(tmp_path: Path) -> None:
    for place, text in enumerate(ROWS):
        file = tmp_path / "letters" / "spam" / f"{place}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    take_out(str(tmp_path / "letters"), tmp_path)
    assert [file.name for file in forget.below(tmp_path / "letters")] == ["0.txt", "2.txt", "4.txt"]


def test_a_folder_of_tables_loses_the_rows_alone(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    lines = [json.dumps({"text": text}) + "\n" for text in ROWS]
    for name in ("train-0.jsonl", "other.jsonl"):
        (folder / name).write_text("".join(lines))
    assert take_out(str(folder), tmp_path) == [
        f"rewrite {folder}/other.jsonl without 2 rows",
        f"rewrite {folder}/train-0.jsonl without 2 rows",
    ]
    left = "".join(line for line in lines if TEXT not in line)
    assert [file.read_text() for file in forget.below(folder)] == [left, left]


@pytest.mark.parametrize("splits", [True, False])
def test_rows_of_a_saved_data_set_are_to_be_taken_out_by_hand(tmp_path: Path, splits: bool) -> None:
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_dict({"text": ROWS})
    (DatasetDict({"train": rows}) if splits else rows).save_to_disk(tmp_path / "saved")
    before = [file.read_bytes() for file in forget.below(tmp_path / "saved")]
    places = forget.find({NAME}, {str(tmp_path / "saved"): PLAIN}, ("text",), []).places
    assert md5_of(tmp_path / "saved") in forget.source_objects(places)
    with pytest.raises(UserError, match="is of a format that is not rewritten here"):
        take_out(str(tmp_path / "saved"), tmp_path)
    assert [file.read_bytes() for file in forget.below(tmp_path / "saved")] == before


def test_a_source_that_cannot_be_rewritten_is_refused_with_the_way_on(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"copy it to data/raw, name the copy in .*source and watch"
    ):
        forget.source_steps({"package:some/rows": [("a", 1)]}, tmp_path, {})
    (tmp_path / "rows.csv").write_text("text\n")
    with pytest.raises(UserError, match="lies outside of this folder"):
        forget.source_steps({str(tmp_path / "rows.csv"): [("a", 2)]}, tmp_path / "project", {})


def test_a_text_is_known_from_an_old_table_too(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"id": [f"{NAME}-2", "y"], "text": [TEXT, OTHER]}).to_parquet(tmp_path / "a")
    pd.DataFrame({"id": ["y"]}).to_parquet(tmp_path / "b")
    (tmp_path / "c").write_bytes(b"PAR1 is not all of a table")
    found = forget.find({NAME}, {}, ("text",), [tmp_path / name for name in "abc"])
    assert (found.texts, found.known) == ({NAME: TEXT}, {NAME})
    assert forget.find({"0" * 20}, {}, ("text",), [tmp_path / "a"]).known == set()


def test_rows_of_the_same_words_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    twin = TEXT.upper() + "  "
    lines = (json.dumps({"text": text}) for text in (TEXT, OTHER, twin))
    path.write_text("\n".join(lines))
    assert forget.find({NAME}, {str(path): PLAIN}, ("text",), []).twins() == [content_id(twin)]


def test_the_cache_loses_the_objects_and_what_names_them(shop: Shop, forgotten: Forgotten) -> None:
    raw, clean = shop.keep(f"text\n{TEXT}\n".encode()), shop.keep(OTHER.encode())
    tokens = shop.keep_folder({"train.arrow": f"{NAME} 1 2".encode(), "test.arrow": b"y 3"})
    other = shop.keep_folder({"page.html": b"<html>"})
    gone, stays = shop.remember(a=raw), shop.remember(a=clean)
    names = forget.holders(shop.cache, forgotten, set())
    assert names == {raw, tokens, *shop.cache.entries(tokens).values()} - {hash_of(b"y 3")}
    [line] = act(forget.cache_steps(shop.cache, names))
    assert line.startswith("remove 3 cache objects and 1 entries of DVC's run cache")
    assert not shop.cache.has(raw) and not shop.cache.has(tokens) and not gone.exists()
    assert shop.cache.has(clean) and shop.cache.has(other) and stays.exists()
    assert not any(forgotten.in_file(path) for path in shop.cache.objects().values())
    assert forget.cache_steps(shop.cache, forget.holders(shop.cache, forgotten, set())) == []


def test_a_copy_of_the_source_goes_whatever_its_words(shop: Shop) -> None:
    Path("rows.csv").write_text("text\nok\nok then\n")
    copy, other = shop.keep(Path("rows.csv").read_bytes()), shop.keep(b"ok, ok")
    found = forget.find({content_id("ok")}, {"rows.csv": PLAIN}, ("text",), [])
    short = Forgotten.of([content_id("ok")], found.texts.values(), found.others)
    assert short.wordless == 1
    surely = forget.source_objects(found.places)
    assert forget.holders(shop.cache, short, surely) == {copy}
    assert shop.cache.has(other)


def test_runs_lose_the_rows_and_stay_sound(shop: Shop, forgotten: Forgotten) -> None:
    artifacts = {
        "records/mistakes.csv": f"id,excerpt\n{NAME},{TEXT}\ny,{OTHER}\n".encode(),
        "records/rows.parquet": rows_table(f"{NAME}-2", "y"),
        "validation/docs/index.html": f"<b>{TEXT}</b>".encode(),
        "model-card.md": b"# toy",
    }
    first = shop.version({}, artifacts)
    second = shop.version({}, {"model-card.md": b"# toy"})
    shop.enter("promote", first)
    assert forget.trained_on(shop.registry, "toy", {NAME}) == {first: {NAME}, second: None}
    told = act(forget.mlflow_steps(shop.registry, "toy", forgotten))
    assert sorted(line.split()[:2] for line in told) == [
        ["remove", "validation/docs/index.html"],
        ["rewrite", "records/mistakes.csv"],
        ["rewrite", "records/rows.parquet"],
    ]
    run = shop.run_of(first)
    left = mlflow_files.fetch(run.uri, "records/mistakes.csv").read_text()
    assert left == f"id,excerpt\ny,{OTHER}\n"
    assert forget.mlflow_steps(shop.registry, "toy", forgotten) == []
    assert list(forget.remains(shop.folder, forgotten)) == []
    check = fsck.check_registry(shop.registry, "toy", shop.cache, set())
    assert [finding.what for finding in check] == []
    card = json.loads(run.tags[RECORDS_TAG])["model-card.md"]
    assert card == hashlib.sha256(b"# toy").hexdigest()


def test_a_row_of_the_test_set_or_set_aside_has_taught_nothing(shop: Shop) -> None:
    tables = (rows_table(NAME, split="test"), rows_table(NAME, kept=False))
    numbers = [shop.version({}, {"records/rows.parquet": table}) for table in tables]
    assert forget.trained_on(shop.registry, "toy", {NAME}) == {n: set() for n in numbers}


def test_a_run_in_the_bin_loses_them_too(shop: Shop, forgotten: Forgotten) -> None:
    number = shop.version({}, {"records/mistakes.csv": f"id\n{NAME}\n".encode()})
    shop.client.delete_run(shop.run_of(number).identity)
    assert len(act(forget.mlflow_steps(shop.registry, "toy", forgotten))) == 1
    assert list(forget.remains(shop.folder, forgotten)) == []


def test_prefect_loses_log_lines_and_artifacts(tmp_path: Path, forgotten: Forgotten) -> None:
    assert forget.prefect_steps(tmp_path / "absent", forgotten) == []
    with sqlite3.connect(tmp_path / "prefect.db") as database:
        database.execute("CREATE TABLE log (message TEXT)")
        for table in ("artifact", "artifact_collection"):
            database.execute(f"CREATE TABLE {table} (data TEXT, description TEXT)")
            database.execute(f"INSERT INTO {table} VALUES (?, '')", (json.dumps({"row": TEXT}),))
        database.execute("INSERT INTO log VALUES (?)", (f"bad row: {TEXT}",))
        database.execute("INSERT INTO log VALUES ('a line of another project')")
    database.close()
    assert forgotten.in_file(tmp_path / "prefect.db")
    act(forget.prefect_steps(tmp_path, forgotten))
    assert not forgotten.in_file(tmp_path / "prefect.db")
    with sqlite3.connect(tmp_path / "prefect.db") as database:
        assert database.execute("SELECT message FROM log").fetchall() == [
            ("a line of another project",)
        ]
    database.close()


def test_what_is_left_is_told(tmp_path: Path, forgotten: Forgotten) -> None:
    for name in ("notes.txt", "ids.txt", ".git/objects/x", "other/deep/table.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(NAME)
    left = forget.remains(tmp_path, forgotten, [tmp_path / "ids.txt"])
    assert [str(path.relative_to(tmp_path)) for path in left] == [
        "notes.txt",
        "other/deep/table.csv",
    ]


def test_a_pair_is_found_by_both_of_its_texts(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("pairs.tsv")
    path.write_text('1\tmy "own question\tthe answer\n2\tmy "own question\tanother\n')
    layout = Layout(header=("n", "a", "b"), quotes=False)
    name = content_id(join_texts('my "own question', "the answer"))
    sources = {str(path): layout}
    found = forget.find({name}, sources, ("a", "b"), [])
    assert found.places == {str(path): [(str(path), 1)]}
    act(forget.source_steps(found.places, tmp_path, sources))
    assert path.read_text() == '2\tmy "own question\tanother\n'


def test_lines_leave_their_file_and_the_file_stays(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("reviews")
    folder.mkdir()
    (folder / "good.txt").write_text("fine words here\nsomebody's own words\n")
    layout = Layout(format="lines")
    sources = {"reviews": layout}
    found = forget.find({content_id("somebody's own words")}, sources, ("text",), [])
    act(forget.source_steps(found.places, tmp_path, sources))
    assert (folder / "good.txt").read_text() == "fine words here\n"


@pytest.mark.parametrize(
    ("name", "layout", "column", "content", "text"),
    [
        ("tags.conll", PLAIN, "text", "Anna B-PER\nsings O\n\nBirds O\nsing O\n", "Anna sings"),
        ("notes.txt", Layout("documents"), "text", "Anna\nsings\n\nBirds sing\n", "Anna\nsings"),
        ("songs.en", Layout("parallel"), "en", "Anna sings\nBirds sing\n", "Anna sings"),
        ("a.json", PLAIN, "text", '[{"text": "Anna sings"},\n{"text": "x"}]', "Anna sings"),
        ("a.csv", Layout(encoding="cp1252"), "text", "text,n\nAnna sings,1\n", "Anna sings"),
    ],
)
def test_a_format_of_many_lines_a_row_is_left_to_its_owner(
    name: str,
    layout: Layout,
    column: str,
    content: str,
    text: str,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content)
    found = forget.find({content_id(text)}, {name: layout}, (column,), [])
    assert found.places
    with pytest.raises(UserError, match=rf"{name}: still holds 1 of the rows, the first at line"):
        forget.source_steps(found.places, tmp_path, {name: layout})


def test_semicolons_separate_fields_here_too(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("a.csv")
    path.write_text('text;n\n"Anna, or\nBea";1\nBirds sing;2\n')
    found = forget.find({content_id("Anna, or\nBea")}, {"a.csv": PLAIN}, ("text",), [])
    act(forget.source_steps(found.places, tmp_path, {"a.csv": PLAIN}, ("text",)))
    assert path.read_text() == "text;n\nBirds sing;2\n"
