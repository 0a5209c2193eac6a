"""What answers over HTTP: the routes of one recipe's server."""

import json

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from pipeline.serving import openapi, pages
from pipeline.serving.batching import Batcher, Gone
from pipeline.serving.guard import FAILED, LEFT, Guard, Refusal, refused
from pipeline.serving.handlers import FeedbackStore, Handlers
from pipeline.serving.logs import Log
from pipeline.serving.metrics import Metrics
from pipeline.serving.settings import Settings

LARGE = 2**17  # bytes of a body beyond which others are answered while it is parsed
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def create_app(
    batcher: Batcher, settings: Settings, store: FeedbackStore, log: Log | None = None
) -> Guard:
    """The whole application, for uvicorn to run with `protocol.Protocol`."""
    log, metrics = log or Log(), Metrics(batcher)
    batcher.observe = metrics.batch
    handlers = Handlers(batcher, settings, store, metrics, log)
    app = FastAPI(title=f"bertline: {settings.recipe}", openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Gone, _gone)
    app.add_exception_handler(Exception, _failed)
    routes = openapi.add_routes(app, handlers)
    pages.add_pages(app)
    files = frozenset(pages.PATHS)
    open_paths = files | {"/healthz", "/readyz"}
    work = dict.fromkeys(openapi.WORK, handlers.admit)
    return Guard(app, settings, metrics, log, routes | files, open_paths, work)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refused(error)


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    line = {404: "there is nothing at this path", 405: "this path is not asked by this method"}
    status = error.status_code
    return refused(Refusal(status, line.get(status, "this is refused"), error.headers))


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=LEFT)  # for the log: nobody reads it


async def _failed(_: Request, __: Exception) -> Response:
    return refused(FAILED)  # and the guard, whom the error reaches too, logs it
