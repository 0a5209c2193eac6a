"""Store of feedback: one appended JSON line per label that a user sent for an answer.

    data/feedback/news.jsonl

Texts are stored only with consent. Several processes may append at once while `bertline forget`
rewrites the file: each holds a lock (flock) while it writes.
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

OWNER_ONLY = 0o600  # mode of the file: it holds what people wrote


class Feedback(Record):
    """Right label of an answer, as it is stored."""

    id: str
    """Id of the text, the same as in its row: the start of the SHA-256 of the text or pair."""
    when: str
    """Time in UTC, ISO 8601."""
    request: str
    """Id of the request that was answered; empty if the sender did not name it."""
    version: str
    """RECIPE/NUMBER of the version that answered."""
    consent: bool
    """True if the text may be stored and used for training."""
    text: str = ""
    second: str = ""
    """Second text; both are empty without consent."""
    label: str
    """Right label in the task's own form; empty if it quotes the text, as the answer to a question
    does, and there is no consent."""
    answered: str | None
    """Label that was answered, None if unknown; empty as `label` is."""
    score: float | None
    """Confidence of the version in its answer, in [0, 1]."""


@dataclass(frozen=True)
class SentFeedback:
    """Right label of an answer, as it is sent: with the text even without consent to store it."""

    version: str
    request: str
    text: str
    second: str
    label: str
    consent: bool
    answered: str | None
    score: float | None

    def to_record(self) -> Feedback:
        """Return the feedback without what may not be stored.

        Raises ValueError for a text that is not Unicode and a score that is not finite.
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
        """Return a label, or "" if it quotes the text without consent."""
        return label if self.consent or not _quotes(label, self.text, self.second) else ""


class Store:
    """File of a recipe's feedback."""

    def __init__(self, folder: Path, recipe: str) -> None:
        self.path = file_of(folder, recipe)

    def add(self, sent: SentFeedback) -> str:
        """Append feedback to the file and sync it to disk; return the text's id.

        Raises OSError if the line could not be written completely, ValueError as `to_record`.
        """
        feedback = sent.to_record()
        line = json.dumps(feedback.model_dump(), ensure_ascii=False).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.path) as file:
            size = os.fstat(file).st_size
            # a killed process can leave an incomplete last line
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(file, line) < len(line):
                raise OSError(errno.ENOSPC, "no room for a whole line", str(self.path))
            os.fsync(file)
        return feedback.id


def file_of(folder: Path, recipe: str) -> Path:
    return folder / f"{recipe}.jsonl"


def numbered(path: Path, *, log: Log = no_log) -> Iterator[tuple[int, Feedback]]:
    """Yield the feedback of a file with its line numbers, oldest first.

    Incomplete lines, which a killed process leaves, are logged and skipped. Raises UserError for a
    file that cannot be read and for an invalid line.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield number, Feedback.model_validate_json(line)
                except ValidationError as error:
                    if not line.rstrip().endswith(b"}"):
                        log.info(f"{path}, line {number}: is incomplete: it is skipped")
                        continue
                    first = error.errors(include_url=False)[0]
                    what = ".".join(map(str, first["loc"])) or "it"
                    raise UserError(
                        f"{path}, line {number}: {what}: {first['msg']}: fix or delete that line"
                    ) from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: no feedback has been sent yet") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def drop(path: Path, matches: Callable[[bytes], bool]) -> None:
    """Rewrite a file without the lines that match.

    The mode and the other lines do not change. Lines that other processes append are not lost.
    """
    with _locked(path) as locked, path.open("rb") as file:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        temporary.unlink(missing_ok=True)
        try:
            temporary.touch(OWNER_ONLY)
            with temporary.open("wb") as new:
                new.writelines(line for line in file if not matches(line))
                new.flush()
                os.fchmod(new.fileno(), os.fstat(locked).st_mode & 0o777)
                os.fsync(new.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Yield the descriptor of a locked file to append to, which is created if missing."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                yield file
                return  # else another process replaced it while this one waited
        finally:
            os.close(file)


def _quotes(label: str, *texts: str) -> bool:
    """True if a label is a list of positions and quotes of the texts, as [[12, "the quote"]]."""
    try:
        items = json.loads(label)
    except (ValueError, RecursionError):
        return False
    spans = items if isinstance(items, list) else []
    parts = [part for span in spans if isinstance(span, list) for part in span]
    return any(isinstance(part, str) and part in text for part in parts for text in texts)
