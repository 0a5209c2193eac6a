"""Handlers of the routes of one recipe's server."""

import json
from collections.abc import Mapping, Sequence
from math import ceil
from time import monotonic
from typing import Any, Protocol

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from pipeline.serving import request_parsing
from pipeline.serving.batching import Batcher, Busy, Late
from pipeline.serving.feedback import SentFeedback
from pipeline.serving.guard import Exchange, Refusal, body_of
from pipeline.serving.logs import Log
from pipeline.serving.metrics import CONTENT_TYPE, Metrics
from pipeline.serving.runner import Failed
from pipeline.serving.schemas import PAIRS, TEXTS, Shape
from pipeline.serving.settings import Settings
from pipeline.serving.version import Version
from pipeline.tasks.base import Answer
from pipeline.tasks.base.encoding import Texts

LARGE = 2**17  # bytes of a body that is parsed in a thread, so that the event loop goes on
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class FeedbackStore(Protocol):
    """Destination of feedback."""

    def add(self, sent: SentFeedback) -> str:
        """Store feedback; return the text's id."""


class Handlers:
    """Handlers of the API's routes; their docstrings describe the routes in /openapi.json."""

    def __init__(
        self, batcher: Batcher, settings: Settings, store: FeedbackStore, metrics: Metrics, log: Log
    ) -> None:
        self.batcher, self.settings, self.store = batcher, settings, store
        self.limits, self.metrics, self.log = settings.limits, metrics, log

    async def predict(self, request: Request) -> Response:
        """Answer one text or one pair of texts."""
        value, shape, deadline = await self._read(request)
        row = request_parsing.texts_of(request_parsing.validate(shape.row, value))
        (answer,), version = await self._answers(request, [row], deadline)
        exchange: Exchange = request.scope["exchange"]
        return _json({"id": exchange.id, "version": version.name, **as_json(answer)})

    async def predict_batch(self, request: Request) -> Response:
        """Answer several rows, all by the same version."""
        value, shape, deadline = await self._read(request)
        rows = request_parsing.rows_of(value, shape, self.limits)
        answers, version = await self._answers(request, rows, deadline)
        exchange: Exchange = request.scope["exchange"]
        listed = [as_json(answer) for answer in answers]
        return _json({"id": exchange.id, "version": version.name, "answers": listed})

    async def invocations(self, request: Request) -> Response:
        """Answer as MLflow's scoring server does; the header X-Model-Version names the version."""
        value, shape, deadline = await self._read(request)
        rows = request_parsing.rows_of_invocation(value, shape, self.limits)
        answers, version = await self._answers(request, rows, deadline)
        return _json({"predictions": table(answers)}, headers={"x-model-version": version.name})

    async def feedback(self, request: Request) -> Response:
        """Store the right label of a text. Without consent the text itself is not stored."""
        value, shape, deadline = await self._read(request)
        body: Any = request_parsing.validate(shape.feedback, value)
        text, second = request_parsing.texts_of(body)
        request_parsing.check_limits([(text, second), (body.label, "")], self.limits)
        current = self._version()
        label = _label(current, body.label, text, second)
        version, answered, score = body.version, None, None
        if version is None:
            version = current.name
        if version == current.name:
            # answers are not stored: the version computes the same one again
            (answer,), by = await self._answers(request, [(text, second)], deadline)
            if body.version in (None, by.name):  # else the version has changed meanwhile
                label = _label(by, body.label, text, second)
                version, answered, score = by.name, answer.label, answer.confidence
        elif not _is_of(version, self.settings.recipe):
            raise Refusal(422, f"version: write it as {current.name}")
        sent = SentFeedback(
            version=version,
            request=body.id or "",
            text=text,
            second=second,
            label=label,
            consent=body.consent,
            answered=answered,
            score=score,
        )
        try:
            text_id = await run_in_threadpool(self.store.add, sent)
        except OSError as error:
            self.log(level="error", error=f"feedback cannot be stored: {error.strerror}")
            raise Refusal(503, "feedback cannot be stored at present") from None
        self.metrics.feedback.labels(str(body.consent).lower()).inc()
        return _json({"id": text_id, "version": version, "consent": body.consent})

    async def healthz(self, request: Request) -> Response:
        """Return 200 while the server runs."""
        return _json({"alive": True})

    async def readyz(self, request: Request) -> Response:
        """Return 200 if the champion answers, else 503, and the versions."""
        batcher = self.batcher
        state = {
            "ready": batcher.ready,
            "version": batcher.version and batcher.version.name,
            "previous": batcher.previous and batcher.previous.name,
            "refused": dict([batcher.refused]) if batcher.refused else {},
            "texts": len(shape_of(batcher.version).columns) if batcher.version else 0,
            "key": bool(self.settings.keys),
        }
        return _json(state, 200 if batcher.ready else 503)

    async def metrics_text(self, request: Request) -> Response:
        """Return the metrics for Prometheus."""
        text = await run_in_threadpool(self.metrics.text)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    # shared by the routes

    def admit(self) -> None:
        """Raise Refusal if a row could not be answered now."""
        self._version()
        try:
            self.batcher.admit(1, monotonic() + self.limits.deadline)
        except Busy as busy:
            raise _too_many(busy.retry_after) from None

    def _version(self) -> Version:
        version = self.batcher.version
        if version is None:
            raise Refusal(503, "no version is ready yet", {"retry-after": "1"})
        return version

    async def _read(self, request: Request) -> tuple[Any, Shape, float]:
        """Return the parsed body, the shape to validate it with, and the deadline of the answer."""
        shape, limits = shape_of(self._version()), self.limits
        deadline = monotonic() + limits.deadline
        body = await body_of(request.scope, request.receive, limits.bytes, limits.slow_body)
        if len(body) < LARGE:
            return request_parsing.parse(body), shape, deadline
        return await run_in_threadpool(request_parsing.parse, body), shape, deadline

    async def _answers(
        self, request: Request, rows: list[Texts], deadline: float
    ) -> tuple[list[Answer], Version]:
        exchange: Exchange = request.scope["exchange"]
        request_parsing.check_limits(rows, self.limits)
        exchange.rows = len(rows)
        exchange.characters = sum(len(text) + len(second) for text, second in rows)
        caller = exchange.caller
        try:
            answers, version = await caller.wait_for(
                self.batcher.answer(rows, deadline, caller.gone)
            )
        except Busy as busy:
            raise _too_many(busy.retry_after) from None
        except Late:
            raise _too_many(1.0, "the deadline has passed") from None
        except Failed:
            raise Refusal(500, "the version failed on this text: see the server's log") from None
        exchange.version = version.name
        self.metrics.rows.inc(len(rows))
        return answers, version


def shape_of(version: Version) -> Shape:
    return PAIRS if version.two_texts else TEXTS


def as_json(answer: Answer) -> dict[str, Any]:
    """Return an answer in the form of /predict."""
    return {
        "label": answer.label,
        "score": answer.confidence,
        "scores": dict(answer.scores),
        "details": dict(answer.details),
    }


def table(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return answers as MLflow writes a version's pandas table: every row has every column, in
    order of appearance."""
    rows = [
        {
            "label": answer.label,
            "score": answer.confidence,
            **answer.details,
            **{f"score_{name}": score for name, score in answer.scores.items()},
        }
        for answer in answers
    ]
    columns = {column: None for row in rows for column in row}
    return [columns | row for row in rows]


def _json(value: Mapping[str, Any], status: int = 200, headers: Any = None) -> Response:
    return Response(_encode(value), status, headers, "application/json")


def _too_many(seconds: float, reason: str = "too many requests") -> Refusal:
    wait = max(1, ceil(seconds))
    return Refusal(429, f"{reason}: try again in {wait} s", {"retry-after": str(wait)})


def _label(version: Version, cell: str, text: str, second: str) -> str:
    """Return a label in the task's own form. Raises Refusal for an invalid label and for classes
    that the version does not have."""
    if not cell.strip():
        raise Refusal(422, "label: is empty")
    try:
        label: str = version.task.label(cell, text, second)
    except RecursionError:
        raise Refusal(422, "label: is nested too deeply") from None
    except ValueError as error:
        raise Refusal(422, f"label: {error}") from None
    unknown = set(version.task.classes(label)) - set(version.classes)
    if unknown:
        name = min(unknown)
        raise Refusal(422, f"label: {version.name} has no class {json.dumps(name)[:80]}")
    return label


def _is_of(version: str, recipe: str) -> bool:
    name, _, number = version.rpartition("/")
    return name == recipe and number.isascii() and number.isdigit()
