"""Server of a toy version without a network, and toy answers for every task."""

import asyncio
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pipeline import tasks
from pipeline.serving.app import create_app
from pipeline.serving.batching import Batcher
from pipeline.serving.feedback import SentFeedback
from pipeline.serving.logs import Log
from pipeline.serving.settings import Limits, Settings
from pipeline.serving.tuning import Tuning
from pipeline.tasks.base import Answer, Labelled, Logits, Task
from pipeline.tasks.base.encoding import Texts
from pipeline.tasks.base.masked_lm import BEST
from tests.conftest import FILLER, WORDS
from tests.pipeline.tasks.toys import TOYS

CLASSES = ["film", "money", "sport"]
Says = Callable[[Texts], Answer]


def plain(texts: Texts) -> Answer:
    shares = {"film": 0.2, "money": 0.7, "sport": 0.1}
    return Answer("money", 0.7, shares)


class Toy:
    """Fake version with the interface that the server uses."""

    def __init__(
        self,
        number: int = 1,
        task: str = "classification",
        classes: Sequence[str] = CLASSES,
        says: Says = plain,
    ) -> None:
        self.recipe, self.number, self.name = "toy", str(number), f"toy/{number}"
        self.task = tasks.get(task)
        self.two_texts, self.classes, self.says = self.task.two_texts, list(classes), says
        self.asked: list[Texts] = []

    def answer(self, texts: Sequence[Texts], batch_size: int) -> list[Answer]:
        self.asked += texts
        return [self.says(text) for text in texts]


@dataclass
class Notes:
    """Feedback store in a list."""

    kept: list[SentFeedback] = field(default_factory=list)
    broken: bool = False

    def add(self, sent: SentFeedback) -> str:
        if self.broken:
            raise OSError(28, "No space left on device")
        self.kept.append(sent)
        return "0123456789abcdef"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """Message of a refusal, which has no other fields."""
        assert set(self.value) == {"error"}
        line: str = self.value["error"]
        assert "\n" not in line
        return line


class Site:
    """Server on its own event loop, which runs only during requests."""

    def __init__(
        self,
        version: Toy | None = None,
        *,
        limits: Limits | None = None,
        keys: Sequence[str] = (),
        hosts: Sequence[str] = (),
        bound: str = "127.0.0.1",
    ) -> None:
        self.loop, self.bound = asyncio.new_event_loop(), bound
        self.batcher = self.loop.run_until_complete(_batcher())
        if version:
            self.swap(version)
        self.store, self.log = Notes(), io.StringIO()
        settings = Settings("toy", limits or Limits(), frozenset(keys), frozenset(hosts))
        self.app = create_app(self.batcher, settings, self.store, Log(self.log))

    def close(self) -> None:
        self.batcher.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def swap(self, version: Toy) -> None:
        self.loop.run_until_complete(self.batcher.swap(version))  # type: ignore[arg-type]
        self.batcher.confirmed = True

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, b"", headers)

    def post(self, path: str, value: object, **headers: str) -> Reply:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.ask("POST", path, body, {"content-type": "application/json"} | headers)

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Reply:
        return self.loop.run_until_complete(self.asked(method, path, [body], headers))

    async def asked(
        self, method: str, path: str, parts: list[bytes | None], headers: dict[str, str]
    ) -> Reply:
        """Send a request whose body comes in parts; a part None never arrives."""
        sent: list[Any] = []
        rest = list(parts)

        async def receive() -> dict[str, Any]:
            part = rest.pop(0)
            if part is None:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": part, "more_body": bool(rest)}

        async def send(message: Any) -> None:
            sent.append(message)

        given = {"host": "localhost:8000"} | {k.replace("_", "-"): v for k, v in headers.items()}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(k.encode(), v.encode()) for k, v in given.items() if v],
            "http_version": "1.1",
            "scheme": "http",
            "server": (self.bound, 8000),
            "client": ("127.0.0.1", 50000),
            "asgi": {"version": "3.0"},
        }
        await self.app(scope, receive, send)
        start, *bodies = sent
        return Reply(
            start["status"],
            {k.decode(): v.decode() for k, v in start["headers"]},
            b"".join(part.get("body", b"") for part in bodies),
        )


async def _batcher() -> Batcher:
    return Batcher(Tuning(runners=1, threads=1, batch=8, rows_per_second=1e6))


def toy_answers(name: str, folder: Path) -> tuple[Toy, list[Texts]]:
    """Return a version with a random model's answers to a toy's rows, and their texts."""
    task, rows = tasks.get(name), TOYS[name](24, Random(5))
    texts = [(row["text"], row.get("second", "")) for row in rows]
    labels = [task.label(row.get("label", ""), *p) for row, p in zip(rows, texts, strict=True)]
    classes = sorted({known for label in labels for known in task.classes(label)})
    tokenizer = _tokenizer(folder)
    masking = (
        {"probability": 0.15, "whole_words": False, "packed": False}
        if task.dynamic_masking
        else None
    )
    pieces = task.encoder(tokenizer, 48, "truncate", 0, masking).pieces(texts)
    draw = np.random.default_rng(3)
    logits = [_random(task, len(piece), len(task.outputs(classes)), draw) for piece in pieces]
    groups = [row.get("group", "") for row in rows]
    known = Labelled(texts, labels, groups)
    decision = {
        **task.prepare(labels),
        **task.decide(logits, pieces, known, classes),
        "target": tokenizer.read_text(),
    }
    if task.remembers:
        targets = [classes.index(labels[piece.row]) for piece in pieces]
        decision |= task.remember(logits, targets, classes)
    found = task.answers(logits, pieces, texts, classes, decision)
    by_text = dict(zip(texts, found, strict=True))
    return Toy(1, name, classes, lambda text: by_text[text]), list(by_text)


def _random(task: Task, tokens: int, width: int, draw: np.random.Generator) -> Logits:
    """Return random logits of a piece."""
    if task.head == "seq2seq":
        return np.array([-1.5, *draw.integers(4, 30, 6)], np.float32)
    found = draw.normal(
        size=(tokens, width) if task.head in ("token", "span", "masked_lm") else width
    )
    if task.head == "masked_lm":  # log probabilities and tokens
        found[:, : 1 + BEST] = -np.abs(found[:, : 1 + BEST])
        found[:, 1 + BEST :] = draw.integers(4, 30, (tokens, BEST))
    return found.astype(np.float32)


def _tokenizer(folder: Path) -> Path:
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *FILLER,
        *(w for group in WORDS.values() for w in group),
    ]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"
