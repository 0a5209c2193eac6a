"""What the API says of itself: its routes, and their description for the version that answers."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import JSONResponse

from pipeline.serving import schemas
from pipeline.serving.handlers import Handlers
from pipeline.serving.schemas import PAIRS, TEXTS, Shape

if TYPE_CHECKING:
    from pipeline.serving.settings import Limits, Settings
    from pipeline.serving.version import Version

REFUSALS = {
    400: "No JSON, or no Unicode",
    401: "No API key, or an unknown one",
    403: "A foreign host or origin",
    408: "The body was too slow",
    413: "Too many bytes or rows",
    415: "No JSON by its header",
    422: "Wrong types, too many characters, an unknown label",
    429: "Too many ask at once: Retry-After says when to try again",
    500: "The version did not manage a text",
    503: "No version is ready yet",
}
WORK = ("/predict", "/predict/batch", "/invocations", "/feedback")
ASKED = (400, 401, 403, 408, 413, 415, 422, 429, 500, 503)
REF = "#/components/schemas/{model}"


def add_routes(app: FastAPI, handlers: Handlers) -> frozenset[str]:
    """Every route of the API; returns their paths."""
    post: Mapping[str, tuple[Any, type[BaseModel], str]] = {
        "/predict": (handlers.predict, schemas.Prediction, "One row"),
        "/predict/batch": (handlers.predict_batch, schemas.Predictions, "Several rows"),
        "/invocations": (handlers.invocations, schemas.Invoked, "As MLflow's scoring server"),
        "/feedback": (handlers.feedback, schemas.Kept, "The right label of a text"),
    }
    for path, (function, model, summary) in post.items():
        add = app.post(
            path,
            response_model=model,
            responses=_refusals(ASKED),
            summary=summary,
            response_description="The answer",
            tags=["Answers"],
            description=function.__doc__,
        )
        add(function)
    text = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
    unready = {503: {"model": schemas.Ready, "description": "No version, or not the right one yet"}}
    get: Mapping[str, tuple[Any, Any, str]] = {
        "/healthz": (handlers.healthz, {200: {"model": schemas.Alive}}, "Does it run?"),
        "/readyz": (handlers.readyz, {200: {"model": schemas.Ready}} | unready, "Does it answer?"),
        "/metrics": (handlers.metrics_text, text | _refusals((401,)), "Numbers for Prometheus"),
    }
    for path, (function, responses, summary) in get.items():
        add = app.get(
            path,
            response_class=Response,
            responses=responses | _refusals((400, 403)),
            summary=summary,
            response_description="Yes" if path != "/metrics" else "The numbers",
            tags=["Server"],
            description=function.__doc__,
        )
        add(function)

    @app.get("/openapi.json", include_in_schema=False)
    async def description(_: Request) -> Response:
        return JSONResponse(described(app, handlers.batcher.version, handlers.settings))

    return frozenset(route.path for route in app.routes if hasattr(route, "path"))


def _refusals(statuses: tuple[int, ...]) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": schemas.Error, "description": REFUSALS[status]} for status in statuses
    }


def described(app: FastAPI, version: "Version | None", settings: "Settings") -> dict[str, Any]:
    """OpenAPI 3.1 for what a version is asked and answers; made anew for each, in milliseconds."""
    named = version.name if version else f"{settings.recipe}/0"
    document = get_openapi(
        title=app.title,
        version=named,
        description="Answers by the champion. Every answer says which version gave it;"
        " errors are one line each.",
        routes=app.routes,
    )
    shape = PAIRS if version and version.two_texts else TEXTS
    parts = document["components"]["schemas"]
    parts |= _asked(document["paths"], shape)
    _limit(parts, settings.limits)
    _pattern(parts, settings.recipe)
    if version:
        _exemplify(parts, version)
    if settings.keys:
        schemes = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        document["components"]["securitySchemes"] = schemes
        document["security"] = [{name: []} for name in schemes]
        for path in ("/healthz", "/readyz"):
            document["paths"][path]["get"]["security"] = []
    return document


def _asked(paths: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """Writes into each path what its body is; returns the schemas that this refers to."""
    bodies = {
        "/predict": [shape.row],
        "/predict/batch": [shape.rows],
        "/feedback": [shape.feedback],
        "/invocations": list(shape.invocations.values()),
    }
    models = [model for each in bodies.values() for model in each]
    names, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=REF
    )
    for path, own in bodies.items():
        refs = [names[model, "validation"] for model in own]
        schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        paths[path]["post"]["requestBody"] = body
    found: dict[str, Any] = definitions["$defs"]
    return found


def _limit(parts: dict[str, Any], limits: "Limits") -> None:
    """Writes the limits of a request where its texts and rows are described."""
    for part in parts.values():
        for name, field in part.get("properties", {}).items():
            if name in ("text", "second") and part.get("additionalProperties") is False:
                field["maxLength"] = limits.characters
            if name in ("rows", "inputs", "instances", "dataframe_records", "data"):
                field["maxItems"] = limits.rows


def _pattern(parts: dict[str, Any], recipe: str) -> None:
    for name in ("TextFeedback", "PairFeedback"):
        if part := parts.get(name):
            text, nothing = part["properties"]["version"]["anyOf"]
            pattern = {"pattern": f"^{re.escape(recipe)}/[0-9]+$"}
            part["properties"]["version"]["anyOf"] = [text | pattern, nothing]


def _exemplify(parts: dict[str, Any], version: "Version") -> None:
    """Examples with the classes that the version answers."""
    classes = list(version.classes)[:5]
    if version.task.exclusive and classes:
        share = round(1 / len(classes), 3)
        said = {"label": classes[0], "score": share, "scores": dict.fromkeys(classes, share)}
        parts["Said"]["examples"] = [said | {"details": {}}]
        told = {"id": "8f1c09d2a7b64e35", "version": version.name}
        parts["Prediction"]["examples"] = [told | said | {"details": {}}]
        for name in ("TextFeedback", "PairFeedback"):
            if part := parts.get(name):
                part["properties"]["label"]["enum"] = list(version.classes)
                part["examples"] = [part["examples"][0] | {"label": classes[0]}]
