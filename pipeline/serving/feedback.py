"""What people say of the answers they got: a line a word of theirs, appended and never edited.

    data/feedback/news.jsonl

Texts are kept with consent only. Several processes may append at once, while `bertline forget`
rewrites the file: each holds its lock (flock) for as long as a line takes.
"""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from pipeline.core.errors import UserError
from pipeline.core.log import Log, no_log
from pipeline.core.records import Record
from pipeline.core.text import content_id, join_texts

OWNER_ONLY = 0o600  # of the file's mode: it holds what people wrote


class Feedback(Record):
    """One answer's right label, as it is kept."""

    id: str
    """The text's name, as its row has it: the head of the SHA-256 of the text, or of both."""
    when: str
    """ISO 8601, in UTC."""
    request: str
    """Id of the request that was answered; empty where the sender did not name it."""
    version: str
    """RECIPE/NUMBER of the version that answered."""
    consent: bool
    """True if the sender lets the text be kept and learned from."""
    text: str = ""
    second: str = ""
    """Both are empty without consent."""
    label: str
    """The right one, written as the task writes it. Empty where it quotes the text, as the answer
    to a question does, and there is no consent."""
    answered: str | None
    """The label that was answered, None where nobody knows; empty as `label` is."""
    score: float | None
    """The version's confidence in it, in [0, 1]."""


@dataclass(frozen=True)
class SentFeedback:
    """One answer's right label, as somebody sends it: with the text, also where there is no
    consent to keep it."""

    version: str
    request: str
    text: str
    second: str
    label: str
    consent: bool
    answered: str | None
    score: float | None

    def kept(self) -> Feedback:
        """Feedback without what there is no consent to keep.

        Raises ValueError for what is not Unicode text or no finite score.
        """
        return Feedback(
            id=content_id(join_texts(self.text, self.second)),
            when=datetime.now(UTC).isoformat(timespec="microseconds"),
            request=self.request,
            version=self.version,
            consent=self.consent,
            text=self.text if self.consent else "",
            second=self.second if self.consent else "",
            label=self._unquoted(self.label),
            answered=None if self.answered is None else self._unquoted(self.answered),
            score=self.score,
        )

    def _unquoted(self, label: str) -> str:
        """A label, empty where it quotes the text without consent."""
        return label if self.consent or not _quotes(label, self.text, self.second) else ""


class Store:
    """Where a recipe's feedback is kept."""

    def __init__(self, folder: Path, recipe: str) -> None:
        self.path = file_of(folder, recipe)

    def add(self, sent: SentFeedback) -> str:
        """Keep one word of feedback for good; returns its text's id.

        Raises OSError where the line could not be written whole, ValueError for what is not
        Unicode text or no finite score.
        """
        feedback = sent.kept()
        line = json.dumps(feedback.model_dump(), ensure_ascii=False).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _held(self.path) as file:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":  # the last line was cut by a kill
                line = b"\n" + line
            if os.write(file, line) < len(line):
                raise OSError(errno.ENOSPC, "no room for a whole line", str(self.path))
            os.fsync(file)
        return feedback.id


def file_of(folder: Path, recipe: str) -> Path:
    return folder / f"{recipe}.jsonl"


def read(folder: Path, recipe: str, *, log: Log = no_log) -> Iterator[Feedback]:
    """A recipe's feedback, oldest first. A line that a kill has cut is told, and skipped.

    Raises UserError for a file that cannot be read and, naming it, for a line that is broken.
    """
    for _, feedback in numbered(file_of(folder, recipe), log=log):
        yield feedback


def numbered(path: Path, *, log: Log = no_log) -> Iterator[tuple[int, Feedback]]:
    """As `read`, with the number of each line."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield number, Feedback.model_validate_json(line)
                except ValidationError as error:
                    if not line.rstrip().endswith(b"}"):
                        log.info(f"{path}, line {number}: was cut by a kill: it is skipped")
                        continue
                    first = error.errors(include_url=False)[0]
                    what = ".".join(map(str, first["loc"])) or "it"
                    raise UserError(
                        f"{path}, line {number}: {what}: {first['msg']}: mend or delete that line"
                    ) from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: nothing has been sent back yet") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def drop(path: Path, goes: Callable[[bytes], bool]) -> None:
    """Write a file of lines without those that are to go. Its mode stays, the others stay byte for
    byte, and what is appended meanwhile is not lost."""
    with _held(path) as held, path.open("rb") as file:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        temporary.unlink(missing_ok=True)
        try:
            temporary.touch(OWNER_ONLY)
            with temporary.open("wb") as new:
                new.writelines(line for line in file if not goes(line))
                new.flush()
                os.fchmod(new.fileno(), os.fstat(held).st_mode & 0o777)
                os.fsync(new.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _held(path: Path) -> Iterator[int]:
    """A file to append to, made where it is missing, while no other process writes to it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                yield file
                return  # else it was rewritten while this one waited
        finally:
            os.close(file)


def _quotes(label: str, *texts: str) -> bool:
    """True if a label holds a piece of the texts beside its place, as [[12, "the piece"]]."""
    try:
        items = json.loads(label)
    except (ValueError, RecursionError):
        return False
    pieces = items if isinstance(items, list) else []
    parts = [part for piece in pieces if isinstance(piece, list) for part in piece]
    return any(isinstance(part, str) and part in text for part in parts for text in texts)
