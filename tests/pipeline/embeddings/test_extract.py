"""Files of embeddings keep the order of rows, also after interruptions."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from pipeline.batch import chunks
from pipeline.core.errors import UserError
from pipeline.core.log import FunctionLog, NullLog
from pipeline.embeddings import extract, store
from pipeline.embeddings.embedder import Embedder, Extraction
from pipeline.embeddings.extract import Rows, embed
from pipeline.sources import Layout, Row
from tests.pipeline.embeddings.conftest import Embeds, Opened, how
from tests.servers import Site


def texts_of(source: Path) -> list[str]:
    with source.open(encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


@pytest.mark.parametrize("name", ["out.parquet", "out.npy"])
def test_rows_keep_their_order_and_what_stands_beside_them(
    name: str,
    source: Path,
    tmp_path: Path,
    tiny_base: Path,
    embedded: Embeds,
    embedder: Embedder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extract, "CHUNK", 16)
    rows = Rows(str(source), label="label", carry=("name",))
    out = tmp_path / name
    made = embedded(rows, out)
    wanted = np.stack([embedder.embeddings(embedder.tokens([t]))[0] for t in texts_of(source)])
    assert np.abs(store.array(out) - wanted).max() < 1e-6
    assert np.abs(np.linalg.norm(wanted, axis=1) - 1).max() < 1e-6
    assert np.array_equal(np.concatenate(list(store.read_embeddings(out))), store.array(out))
    listed = [row for table in store.read_columns(out) for row in table.to_pylist()]
    assert [row["id"] for row in listed] == [str(line) for line in range(2, 52)]
    assert [row["name"] for row in listed] == [f"row {number}" for number in range(50)]
    assert list(listed[0]) == ["id", "label", "name"]
    assert (made.rows, made.width, made.truncated, made.rejected) == (50, 32, 0, 0)
    assert store.made_of(out) == made
    assert [file.suffix for file in (tmp_path / "runs").iterdir()] == [".lock"]


def test_a_parquet_file_has_lists_of_fixed_size(
    source: Path, tmp_path: Path, embedded: Embeds
) -> None:
    out = tmp_path / "out.parquet"
    embedded(Rows(str(source), id="name"), out)
    schema = pq.read_schema(out)
    assert str(schema.field("embedding").type).startswith("fixed_size_list<element: float>[32]")
    assert pq.read_table(out).column("id")[3].as_py() == "row 3"


class Stops(NullLog):
    """Log that interrupts the work after `after` rows."""

    def __init__(self, after: int) -> None:
        self.after = after

    def progress(self, done: int, total: int, note: str = "") -> None:
        if done >= self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["out.parquet", "out.npy"])
@pytest.mark.parametrize("runtime", ["onnx-fp32", "onnx-int8"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    name: str,
    runtime: str,
    source: Path,
    tmp_path: Path,
    tiny_base: Path,
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extract, "CHUNK", 8)
    asked = how(tiny_base, runtime=runtime)
    rows = Rows(str(source), label="label")
    embed(rows, asked, opened(asked), tmp_path / "undisturbed" / name, tmp_path / "one")

    out = tmp_path / "stopped" / name
    for after in (20, 41):  # in the third and in the sixth of seven chunks
        with pytest.raises(KeyboardInterrupt):
            embed(rows, asked, opened(asked), out, tmp_path / "two", log=Stops(after))
        assert not out.parent.exists()
    sizes: list[int] = []
    whole = Embedder.embeddings

    def counted(self: Embedder, tokens: list[Any], *rest: Any) -> Any:
        sizes.append(len(tokens))
        return whole(self, tokens, *rest)

    monkeypatch.setattr(Embedder, "embeddings", counted)
    embed(rows, asked, opened(asked), out, tmp_path / "two")
    assert sizes == [8, 2]  # five chunks were there
    assert files_of(out.parent) == files_of(tmp_path / "undisturbed")


def test_nothing_is_done_twice_and_all_that_changes_is_done_again(
    source: Path, tmp_path: Path, tiny_base: Path, embedded: Embeds
) -> None:
    said: list[str] = []
    out = tmp_path / "out.npy"

    def again(rows: Rows, **asked: Any) -> bool:
        said.clear()
        embedded(rows, out, how(tiny_base, **asked), log=FunctionLog(said.append))
        return not any("is up to date" in each for each in said)

    assert again(Rows(str(source)))
    assert not again(Rows(str(source)))
    assert again(Rows(str(source)), max_length=8)
    assert again(Rows(str(source), label="label"), max_length=8)
    source.write_text(source.read_text() + "one more row,sport,name\n")
    assert again(Rows(str(source), label="label"), max_length=8)
    store.Made.path_for(out).unlink()  # as after an unfinished run
    assert again(Rows(str(source), label="label"), max_length=8)


def test_rows_of_the_web_are_embedded_again_when_they_change(
    source: Path, tmp_path: Path, tiny_base: Path, embedded: Embeds, site: Site
) -> None:
    said: list[str] = []
    out, rows = tmp_path / "out.npy", Rows(f"{site.url}/rows.csv")
    site.pages["/rows.csv"] = source.read_bytes()
    log = FunctionLog(said.append)
    embedded(rows, out, how(tiny_base), log=log)
    before = np.load(out).shape
    embedded(Rows(rows.source), out, how(tiny_base), log=log)
    assert any("is up to date" in each for each in said)
    site.pages["/rows.csv"] += b"one more row,sport,name\n"
    embedded(Rows(rows.source), out, how(tiny_base), log=log)
    assert np.load(out).shape == (before[0] + 1, before[1])


@pytest.mark.parametrize("name", ["out.parquet", "out.npy"])
def test_what_was_there_stays_where_writing_fails(
    name: str, source: Path, tmp_path: Path, embedded: Embeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "CHUNK", 16)
    out = tmp_path / "out" / name
    embedded(Rows(str(source)), out)
    before = files_of(out.parent)
    read = iter([pq.read_table])

    def second_fails(file: Path) -> Any:
        return next(read)(file)

    monkeypatch.setattr(pq, "read_table", second_fails)
    with pytest.raises(RuntimeError):
        embedded(Rows(str(source), label="label"), out)
    assert files_of(out.parent) == before


def test_two_commands_that_would_do_the_same_do_not_meet(
    source: Path, tmp_path: Path, asked: Extraction, embedded: Embeds
) -> None:
    rows, out = Rows(str(source)), tmp_path / "out.npy"
    (tmp_path / "runs").mkdir()
    with (
        FileLock(tmp_path / "runs" / f"{extract.key_of(rows, asked)}.lock"),
        pytest.raises(
            UserError, match=r"rows\.csv: another command works on it with the same settings"
        ),
    ):
        embedded(rows, out, asked)
    assert not out.exists()


def test_rows_that_cannot_be_used_are_told_and_left_out(tmp_path: Path, embedded: Embeds) -> None:
    source = tmp_path / "rows.csv"
    source.write_bytes(
        b"text,label\nthe goal,sport\n ,sport\nnot \xff,sport\nshares,\na,b,c\nlast,x\n"
    )
    said: list[str] = []
    rows, out = Rows(str(source), label="label"), tmp_path / "out.parquet"
    made = embedded(rows, out, log=FunctionLog(said.append))
    assert (made.rows, made.rejected) == (2, 4)
    assert pq.read_table(out).column("id").to_pylist() == ["2", "7"]
    assert said[:4] == [
        f"{source}, line 3: its 'text' is empty",
        f"{source}, line 4: is not UTF-8 (byte 0xff at offset 4)",
        f"{source}, line 5: its 'label' is empty",
        f"{source}: 2 rows, 4 cannot be used and are left out",
    ]


@pytest.mark.parametrize("content", ["text\n", 'text\n""\n'])
def test_a_source_without_rows_makes_no_file(
    content: str, tmp_path: Path, embedded: Embeds
) -> None:
    (tmp_path / "rows.csv").write_text(content)
    rows, out = Rows(str(tmp_path / "rows.csv")), tmp_path / "out.parquet"
    with pytest.raises(UserError, match=r"rows\.csv: no rows"):
        embedded(rows, out)
    assert not out.exists()


def test_a_source_that_changes_meanwhile_makes_no_file(
    source: Path, tmp_path: Path, embedded: Embeds
) -> None:
    def more(said: str) -> None:
        if "50 rows" in said:
            source.write_text(source.read_text() + "one more row,sport,name\n")

    out = tmp_path / "out.parquet"
    with pytest.raises(UserError, match="has changed while it was read"):
        embedded(Rows(str(source)), out, log=FunctionLog(more))
    assert not out.exists()


def test_texts_that_are_cut_are_counted(tmp_path: Path, embedded: Embeds) -> None:
    source = tmp_path / "rows.txt"
    source.write_text("the goal\n" + "the " * 30 + "\n" + "the " * 22 + "\n" + "x" * 5000 + "\n")
    rows = Rows(str(source), layout=extract.Layout("lines"))
    made = embedded(rows, tmp_path / "o.npy")
    assert made.truncated == 1  # the second; the last is one unknown word


@pytest.mark.parametrize("few", [3, 128])
def test_a_token_stands_where_its_characters_are(
    few: int,
    tmp_path: Path,
    tiny_base: Path,
    opened: Opened,
    embedded: Embeds,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extract, "FEW", few)
    source = tmp_path / "rows.txt"
    texts = ["The Goal, of  2", "é café", *["a"] * 4, "in " * 30]
    source.write_text("".join(f"{text}\n" for text in texts))
    rows = Rows(str(source), layout=extract.Layout("lines"))
    asked = how(tiny_base, level="token", pooling=None, layers="0,1", normalize=False)
    made = embedded(rows, tmp_path / "out.parquet", asked)
    table = pq.read_table(tmp_path / "out.parquet")
    found = table.drop(["embedding"]).to_pylist()
    assert made.rows == len(found)
    for row in found:
        text = texts[int(row["id"]) - 1]
        said = row["token"].removeprefix("##")
        assert said in ("[UNK]", text[row["start"] : row["end"]].lower().replace("é", "e"))
    first = [(row["position"], row["token"]) for row in found if row["id"] == "1"]
    assert first == [(1, "the"), (2, "goal"), (3, "[UNK]"), (4, "of"), (5, "2")]
    last = [row["position"] for row in found if row["id"] == "7"]
    assert last == list(range(1, 23))  # of 24, two are special

    by_token = opened(asked)()
    (own,) = by_token.embeddings(by_token.tokens([texts[0]]))
    assert np.abs(store.array(tmp_path / "out.parquet")[:5] - own[1:6]).max() < 1e-6


@pytest.mark.parametrize("normalize", [True, False])
def test_a_centroid_is_the_mean_of_its_labels_rows(
    normalize: bool,
    source: Path,
    tmp_path: Path,
    tiny_base: Path,
    embedded: Embeds,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extract, "CHUNK", 16)
    rows, asked = Rows(str(source), label="label"), how(tiny_base, normalize=normalize)
    embedded(rows, tmp_path / "all.parquet", asked)
    out = tmp_path / "centroids.parquet"
    made = embedded(rows, out, asked, centroids=True)
    labels = np.array(pq.read_table(tmp_path / "all.parquet").column("label").to_pylist())
    every, found = store.array(tmp_path / "all.parquet"), store.array(out)
    table = pq.read_table(out).drop(["embedding"]).to_pylist()
    assert [row["id"] for row in table] == ["film", "money", "sport"]
    assert made.rows == 3
    for row, own in zip(table, found, strict=True):
        mean = every[labels == row["id"]].mean(0)
        mean /= np.linalg.norm(mean) if normalize else 1
        assert np.abs(own - mean).max() < 1e-6
        assert row["rows"] == (labels == row["id"]).sum()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"out": "out.csv"}, r"--out .*: name a file that ends in \.parquet or \.npy"),
        ({"out": "rows.parquet"}, r"--out .*: rows\.parquet is the file of rows itself"),
        ({"centroids": True}, "--centroids: writes one row per label: give --label"),
        ({"carry": ("embedding",)}, "--carry embedding: the output has its own column"),
    ],
)
def test_what_cannot_be_asked_is_told_before_any_work(
    given: dict[str, Any],
    message: str,
    tmp_path: Path,
    embedded: Embeds,
) -> None:
    source = tmp_path / "rows.parquet"
    pq.write_table(extract_table(), source)
    before = source.read_bytes()
    rows = Rows(str(source), carry=given.get("carry", ()))
    out = tmp_path / given.get("out", "out.npy")
    with pytest.raises(UserError, match=message):
        embedded(rows, out, centroids=given.get("centroids", False))
    assert source.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["rows.parquet"]


def extract_table() -> Any:
    import pyarrow as pa

    return pa.table({"text": ["the goal"], "embedding": ["x"]})


@pytest.mark.parametrize("name", ["v.parquet", "v.npy", "v.ids.parquet"])
def test_what_is_not_ours_is_not_overwritten(
    name: str, source: Path, tmp_path: Path, embedded: Embeds
) -> None:
    other = tmp_path / name
    pq.write_table(pa.table({"text": ["mine"]}), other)
    before = other.read_bytes()
    out = tmp_path / ("v.parquet" if name == "v.parquet" else "v.npy")
    with pytest.raises(UserError, match=rf"{name} exists and holds no embeddings of this"):
        embedded(Rows(str(source)), out)
    assert other.read_bytes() == before


def test_a_folder_and_the_rows_themselves_are_not_overwritten(
    source: Path, tmp_path: Path, embedded: Embeds
) -> None:
    (tmp_path / "v.parquet").mkdir()
    with pytest.raises(UserError, match=r"v\.parquet is a folder"):
        embedded(Rows(str(source)), tmp_path / "v.parquet")
    rows = tmp_path / "w.ids.parquet"
    pq.write_table(pa.table({"text": ["a goal"]}), rows)
    with pytest.raises(UserError, match=r"w\.ids\.parquet is the file of rows itself"):
        embedded(Rows(str(rows)), tmp_path / "w.npy")


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    source: Path, embedded: Embeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(extract, "_count")
    with pytest.raises(UserError, match=r"rows\.csv is not a writable folder"):
        embedded(Rows(str(source)), source / "v.npy")


def test_a_file_that_changes_meanwhile_leaves_nothing_behind(
    source: Path, tmp_path: Path, embedded: Embeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rows = source.read_bytes(), Rows(str(source))
    count = extract._count

    def changed(*given: Any) -> tuple[int, int]:
        found = count(*given)
        source.write_bytes(before.replace(b"row 3", b"row x"))
        return found

    monkeypatch.setattr(extract, "_count", changed)
    with pytest.raises(UserError, match="has changed while it was read: run the command again"):
        embedded(rows, tmp_path / "v.npy")
    monkeypatch.undo()
    source.write_bytes(before)
    embedded(Rows(str(source), id="name"), tmp_path / "v.npy")
    embedded(Rows(str(source), id="name"), tmp_path / "w" / "v.npy")
    named = store.columns_file(tmp_path / "v.npy")
    assert named.read_bytes() == store.columns_file(tmp_path / "w" / "v.npy").read_bytes()


def test_other_languages_and_the_name_of_a_file_are_part_of_what_was_embedded(
    tmp_path: Path,
) -> None:
    for name, text in {"p.en": "a goal", "p.fr": "un but"}.items():
        (tmp_path / name).write_text(text)
    rows = Rows(str(tmp_path / "p.en"), text="en", layout=Layout("parallel"))
    before = rows.content()
    (tmp_path / "p.fr").write_text("un match")
    assert rows.content() != before
    for name in ("ham.txt", "spam.txt"):
        (tmp_path / name).write_text("a goal")
    ham, spam = (Rows(str(tmp_path / name), label="label") for name in ("ham.txt", "spam.txt"))
    assert ham.content() != spam.content()


def test_texts_without_words_cost_no_other(
    tmp_path: Path, tiny_base: Path, embedded: Embeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "FEW", 2)
    source = tmp_path / "rows.txt"
    source.write_text("a goal\nthe film\n\u200b\n")
    rows = Rows(str(source), label="label", layout=Layout("lines"))
    out = tmp_path / "tokens.parquet"
    embedded(rows, out, how(tiny_base, level="token", pooling=None))
    assert list(dict.fromkeys(pq.read_table(out).column("id").to_pylist())) == ["1", "2"]
    embedded(rows, tmp_path / "v.npy")
    assert np.isfinite(store.array(tmp_path / "v.npy")).all()


def test_a_chunk_holds_few_rows_where_they_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LARGEST", 100)
    rows = [Row("a", n, {"text": "x" * size}) for n, size in enumerate([60, 60, 1, 1, 1, 200, 5])]
    found = [[row.number for row in chunk] for chunk in chunks.in_chunks(rows, 3)]
    assert found == [[0, 1], [2, 3, 4], [5], [6]]
