"""Whatever bytes come, a reader gives rows, rejects or one line; a full disk is one line too."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import UserError
from pipeline.sources import Layout, Reject, Row, read_rows
from tests.conftest import Workspace

pytestmark = pytest.mark.prove

BYTES = st.binary(max_size=400)
TOKENS = st.lists(
    st.sampled_from(
        [
            *(b'"', b'""', b",", b"\t", b"\n", b"\r\n", b"\r", b"\\", b"\x00", b"\xff", b"a"),
            *(b"\xef\xbb\xbf", b"text", b"label", b"{", b"}", b"[", b"\xe4\xbd\xa0"),
            b'{"text": "a", "label": "b"}',
        ]
    ),
    max_size=60,
).map(b"".join)
TAGGED = st.lists(
    st.sampled_from(
        [
            *(b"O", b"B-P", b"I-P", b"E-P", b"S-P", b"B-", b"-DOCSTART-", b" ", b" ", b"\t", b"\n"),
            *(
                b"\n",
                b"\n\n",
                b"\r\n",
                b"\xff",
                b"\x00",
                b"\xe4\xbd\xa0",
                b"\xe4\xbd\xa0/nr",
                b"a/n",
            ),
            *(b"\xef\xbb\xbf", b"/"),
        ]
    ),
    max_size=60,
).map(b"".join)


PLAIN = Layout()
KINDS = [
    *((suffix, PLAIN, ("text", "label")) for suffix in (".csv", ".jsonl", ".parquet", ".txt")),
    (".tsv", Layout(header=("text", "label"), quotes=False), ("text", "label")),
    (".json", PLAIN, ("question", "context", "answers")),
    *((".txt", Layout(name), ("text", "label")) for name in ("lines", "word_tags")),
]


@pytest.mark.parametrize(("suffix", "layout", "columns"), KINDS)
@settings(
    max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=BYTES
    | TOKENS
    | TOKENS.map(lambda body: b"text,label\n" + body)
    | TOKENS.map(lambda body: b'{"data": [{"paragraphs": [' + body + b"]}]}")
    | TAGGED
)
def test_any_bytes_are_rows_rejects_or_one_line(
    tmp_path: Path, suffix: str, layout: Layout, columns: tuple[str, ...], content: bytes
) -> None:
    path = tmp_path / f"hostile{suffix}"
    path.write_bytes(content)
    try:
        for row in read_rows(str(path), columns, layout):
            if isinstance(row, Row):
                "".join(row.fields.values()).encode()  # no lone surrogate has come through
            else:
                assert isinstance(row, Reject)
                assert "\n" not in row.reason
    except UserError as error:
        assert "\n" not in str(error)
        assert str(path) in str(error)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs more rights than this user has")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Workspace:
    """A workspace whose stages have run as far as export."""
    made = Workspace(tmp_path_factory.mktemp("full") / "work", tiny_base)
    made.repro("export@toy")
    return made


@pytest.mark.parametrize("stage", ["ingest", "tokenize", "finetune", "export"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    ran: Workspace, small_disk: Path, stage: str
) -> None:
    own, state = ran.folder / "data" / "toy" / stage, ran.folder / ".bertline" / "state"
    kept = own.rename(own.with_name(f"{stage}.kept"))
    for folder in (own, state):
        (small_disk / folder.name).mkdir()
        if folder.exists():
            folder.rmdir()
        folder.symlink_to(small_disk / folder.name)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
    try:
        done = ran.call(sys.executable, "-m", "pipeline", stage, "toy", code=2)
    finally:
        for link in (own, state):
            link.unlink()
        kept.rename(own)
    errors = [line for line in done.stderr.splitlines() if "rror" in line]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith(f"error: {stage} of toy: ")
    assert "no space left on device" in errors[0].lower()
    assert "Traceback" not in done.stderr
    assert not list(small_disk.rglob("*.partial"))
