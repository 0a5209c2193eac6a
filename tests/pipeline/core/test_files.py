"""Files are written atomically."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.files import atomic_write, parquet_batches, sha256_of, write_json


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic_write(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["two"]


def test_a_folder_has_one_digest_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "file").write_text("content")
    assert sha256_of(tmp_path / "a") == sha256_of(tmp_path / "b")
    (tmp_path / "b" / "sub" / "file").write_text("other")
    assert sha256_of(tmp_path / "a") != sha256_of(tmp_path / "b")


@pytest.mark.parametrize(("group", "share"), [(250, 0.25), (3000, 1)])
def test_parquet_is_read_a_few_rows_at_a_time_and_never_buffered_whole(
    tmp_path: Path, group: int, share: float
) -> None:
    path = tmp_path / "rows.parquet"
    random = np.random.default_rng(0)
    rows = pa.table({"text": [random.bytes(10_000).hex() for _ in range(3000)], "n": range(3000)})
    pq.write_table(rows, path, row_group_size=group)
    del rows
    before, most = pa.total_allocated_bytes(), 0
    numbers = []
    for batch in parquet_batches(path, 150, ("n", "text")):
        most = max(most, pa.total_allocated_bytes() - before)
        assert batch.num_rows <= 150
        numbers += batch["n"].to_pylist()
    assert numbers == list(range(3000))
    assert most < path.stat().st_size * share
    assert all(batch.num_rows * 20_000 < 4.1e6 for batch in parquet_batches(path))
