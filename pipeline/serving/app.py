"""ASGI application of one recipe's server."""

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from pipeline.serving import openapi, pages
from pipeline.serving.batching import Batcher, Gone
from pipeline.serving.guard import CLIENT_CLOSED, FAILED, Guard, Refusal, refused
from pipeline.serving.handlers import FeedbackStore, Handlers
from pipeline.serving.logs import Log
from pipeline.serving.metrics import Metrics
from pipeline.serving.settings import Settings


def create_app(
    batcher: Batcher, settings: Settings, store: FeedbackStore, log: Log | None = None
) -> Guard:
    """Build the application, which uvicorn runs with `protocol.Protocol`."""
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
    line = {404: "there is nothing at this path", 405: "this path does not accept this method"}
    status = error.status_code
    return refused(Refusal(status, line.get(status, "the request is refused"), error.headers))


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)  # for the log: the client has disconnected


async def _failed(_: Request, __: Exception) -> Response:
    return refused(FAILED)  # the error also reaches the guard, which logs it
