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

LARGE = 2**17  # bytes of a body beyond which others are answered while it is parsed
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class FeedbackStore(Protocol):
    """Destination of feedback."""

    def add(self, sent: SentFeedback) -> str:
        """Returns the text's id."""


class Handlers:
    """Each route of the API, as a function of its request."""

    def __init__(
        self, batcher: Batcher, settings: Settings, store: FeedbackStore, metrics: Metrics, log: Log
    ) -> None:
        self.batcher, self.settings, self.store = batcher, settings, store
        self.limits, self.metrics, self.log = settings.limits, metrics, log

    async def predict(self, request: Request) -> Response:
        """Answer one text, or one pair of texts."""
        value, shape, deadline = await self._asked(request)
        row = request_parsing.texts_of(request_parsing.checked(shape.row, value))
        (answer,), version = await self._answers(request, [row], deadline)
        exchange: Exchange = request.scope["exchange"]
        return _json({"id": exchange.id, "version": version.name, **told(answer)})

    async def predict_batch(self, request: Request) -> Response:
        """Answer several rows, all of them by one version."""
        value, shape, deadline = await self._asked(request)
        rows = request_parsing.rows_of(value, shape, self.limits)
        answers, version = await self._answers(request, rows, deadline)
        exchange: Exchange = request.scope["exchange"]
        each = [told(answer) for answer in answers]
        return _json({"id": exchange.id, "version": version.name, "answers": each})

    async def invocations(self, request: Request) -> Response:
        """Answer as MLflow's scoring server does; the version stands in X-Model-Version."""
        value, shape, deadline = await self._asked(request)
        rows = request_parsing.invoked(value, shape, self.limits)
        answers, version = await self._answers(request, rows, deadline)
        return _json({"predictions": table(answers)}, headers={"x-model-version": version.name})

    async def feedback(self, request: Request) -> Response:
        """Send back the right label of a text. Without consent the text itself is not kept."""
        value, shape, deadline = await self._asked(request)
        given: Any = request_parsing.checked(shape.feedback, value)
        text, second = request_parsing.texts_of(given)
        request_parsing.keep_limits([(text, second), (given.label, "")], self.limits)
        now = self._version()
        label = _label(now, given.label, text, second)
        version, answered, score = given.version, None, None
        if version is None:
            version = now.name
        if version == now.name:
            # what was answered is not remembered, and is the same again
            (answer,), by = await self._answers(request, [(text, second)], deadline)
            if given.version in (None, by.name):  # else another has come in meanwhile
                label = _label(by, given.label, text, second)
                version, answered, score = by.name, answer.label, answer.confidence
        elif not _is_of(version, self.settings.recipe):
            raise Refusal(422, f"version: say it as {now.name}")
        sent = SentFeedback(
            version=version,
            request=given.id or "",
            text=text,
            second=second,
            label=label,
            consent=given.consent,
            answered=answered,
            score=score,
        )
        try:
            identity = await run_in_threadpool(self.store.add, sent)
        except OSError as error:
            self.log(level="error", error=f"feedback could not be kept: {error.strerror}")
            raise Refusal(503, "feedback cannot be kept at present") from None
        self.metrics.feedback.labels(str(given.consent).lower()).inc()
        return _json({"id": identity, "version": version, "consent": given.consent})

    async def healthz(self, request: Request) -> Response:
        """Say that the server runs."""
        return _json({"alive": True})

    async def readyz(self, request: Request) -> Response:
        """Say whether the champion answers, and which version that is."""
        now = self.batcher
        told = {
            "ready": now.ready,
            "version": now.version and now.version.name,
            "previous": now.previous and now.previous.name,
            "refused": dict([now.refused]) if now.refused else {},
            "texts": len(shape_of(now.version).columns) if now.version else 0,
            "key": bool(self.settings.keys),
        }
        return _json(told, 200 if now.ready else 503)

    async def metrics_text(self, request: Request) -> Response:
        """Everything that is counted, for Prometheus."""
        # beside the event loop, which goes on answering
        text = await run_in_threadpool(self.metrics.text)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    # what the routes share

    def admit(self) -> None:
        """Raises Refusal where a row could not be answered now."""
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

    async def _asked(self, request: Request) -> tuple[Any, Shape, float]:
        """The parsed body, the shape that it should have, and when an answer is too late."""
        shape, limits = shape_of(self._version()), self.limits
        deadline = monotonic() + limits.deadline
        body = await body_of(request.scope, request.receive, limits.bytes, limits.slow_body)
        if len(body) < LARGE:
            return request_parsing.parsed(body), shape, deadline
        return await run_in_threadpool(request_parsing.parsed, body), shape, deadline

    async def _answers(
        self, request: Request, rows: list[Texts], deadline: float
    ) -> tuple[list[Answer], Version]:
        exchange: Exchange = request.scope["exchange"]
        request_parsing.keep_limits(rows, self.limits)
        exchange.rows = len(rows)
        exchange.characters = sum(len(text) + len(second) for text, second in rows)
        caller = exchange.caller
        try:
            answers, version = await caller.waits(self.batcher.answer(rows, deadline, caller.gone))
        except Busy as busy:
            raise _too_many(busy.retry_after) from None
        except Late:
            raise _too_many(1.0, "there was no time for it") from None
        except Failed:
            raise Refusal(500, "the version did not manage this text: the log says where") from None
        exchange.version = version.name
        self.metrics.rows.inc(len(rows))
        return answers, version


def shape_of(version: Version) -> Shape:
    return PAIRS if version.two_texts else TEXTS


def told(answer: Answer) -> dict[str, Any]:
    """An answer as /predict gives it."""
    return {
        "label": answer.label,
        "score": answer.confidence,
        "scores": dict(answer.scores),
        "details": dict(answer.details),
    }


def table(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Answers as a registered version's pandas table is written: every row has every column, in
    the order in which they come up."""
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


def _too_many(seconds: float, why: str = "too many ask at once") -> Refusal:
    wait = max(1, ceil(seconds))
    return Refusal(429, f"{why}: try again in {wait} s", {"retry-after": str(wait)})


def _label(version: Version, cell: str, text: str, second: str) -> str:
    """A label in the task's own way of writing it, of classes that the version knows."""
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
        raise Refusal(422, f"label: {version.name} knows no class {json.dumps(name)[:80]}")
    return label


def _is_of(version: str, recipe: str) -> bool:
    name, _, number = version.rpartition("/")
    return name == recipe and number.isascii() and number.isdigit()
