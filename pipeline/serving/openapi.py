"""Routes of the API and their OpenAPI description for the version in use."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import JSONResponse

from pipeline.serving import schemas
from pipeline.serving.handlers import Handlers, shape_of
from pipeline.serving.schemas import TEXTS, Shape

if TYPE_CHECKING:
    from pipeline.serving.settings import Limits, Settings
    from pipeline.serving.version import Version

REFUSALS = {
    400: "Not JSON, or not Unicode",
    401: "No API key, or an unknown one",
    403: "A foreign host or origin",
    408: "The body was too slow",
    413: "Too many bytes or rows",
    415: "The Content-Type is not JSON",
    422: "Wrong types, too many characters, an unknown label",
    429: "Too many requests: Retry-After says when to try again",
    500: "The version failed on a text",
    503: "No version is ready yet",
}
WORK = ("/predict", "/predict/batch", "/invocations", "/feedback")
REF = "#/components/schemas/{model}"


def add_routes(app: FastAPI, handlers: Handlers) -> frozenset[str]:
    """Add the routes of the API to the application; return their paths."""
    post: Mapping[str, tuple[Any, type[BaseModel], str]] = {
        "/predict": (handlers.predict, schemas.Prediction, "One row"),
        "/predict/batch": (handlers.predict_batch, schemas.Predictions, "Several rows"),
        "/invocations": (handlers.invocations, schemas.Invocations, "As MLflow's scoring server"),
        "/feedback": (handlers.feedback, schemas.StoredFeedback, "The right label of a text"),
    }
    for path, (function, model, summary) in post.items():
        app.post(
            path,
            response_model=model,
            responses=_refusals(*REFUSALS),
            summary=summary,
            response_description="The answer",
            tags=["Answers"],
            description=function.__doc__,
        )(function)
    text = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
    unready = {503: {"model": schemas.Ready, "description": "No version, or not confirmed yet"}}
    get: Mapping[str, tuple[Any, Any, str]] = {
        "/healthz": (handlers.healthz, {200: {"model": schemas.Alive}}, "Is the process alive?"),
        "/readyz": (handlers.readyz, {200: {"model": schemas.Ready}} | unready, "Is it ready?"),
        "/metrics": (handlers.metrics_text, text | _refusals(401), "Metrics for Prometheus"),
    }
    for path, (function, responses, summary) in get.items():
        app.get(
            path,
            response_class=Response,
            responses=responses | _refusals(400, 403),
            summary=summary,
            response_description="Yes" if path != "/metrics" else "The metrics",
            tags=["Server"],
            description=function.__doc__,
        )(function)

    @app.get("/openapi.json", include_in_schema=False)
    async def description(_: Request) -> Response:
        return JSONResponse(described(app, handlers.batcher.version, handlers.settings))

    return frozenset(route.path for route in app.routes if hasattr(route, "path"))


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": schemas.Error, "description": REFUSALS[status]} for status in statuses
    }


def described(app: FastAPI, version: "Version | None", settings: "Settings") -> dict[str, Any]:
    """Return the OpenAPI 3.1 description for a version; building it takes milliseconds."""
    document = get_openapi(
        title=app.title,
        version=version.name if version else f"{settings.recipe}/0",
        description="Answers of the champion. Every answer names its version;"
        " every error is one line.",
        routes=app.routes,
    )
    models = document["components"]["schemas"]
    models |= _add_bodies(document["paths"], shape_of(version) if version else TEXTS)
    _add_limits(models, settings.limits)
    _add_pattern(models, settings.recipe)
    if version:
        _add_examples(models, version)
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


def _add_bodies(paths: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """Add the schema of its body to each path; return the schemas that these refer to."""
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
    for path, alternatives in bodies.items():
        refs = [names[model, "validation"] for model in alternatives]
        schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        paths[path]["post"]["requestBody"] = body
    return dict(definitions["$defs"])


def _add_limits(models: dict[str, Any], limits: "Limits") -> None:
    for model in models.values():
        for name, field in model.get("properties", {}).items():
            if name in ("text", "second") and model.get("additionalProperties") is False:
                field["maxLength"] = limits.characters
            if name in ("rows", "inputs", "instances", "dataframe_records", "data"):
                field["maxItems"] = limits.rows


def _add_pattern(models: dict[str, Any], recipe: str) -> None:
    for name in ("TextFeedback", "PairFeedback"):
        if model := models.get(name):
            text, nothing = model["properties"]["version"]["anyOf"]
            pattern = {"pattern": f"^{re.escape(recipe)}/[0-9]+$"}
            model["properties"]["version"]["anyOf"] = [text | pattern, nothing]


def _add_examples(models: dict[str, Any], version: "Version") -> None:
    """Add examples with the version's classes."""
    classes = list(version.classes)[:5]
    if version.task.exclusive and classes:
        share = round(1 / len(classes), 3)
        scores = dict.fromkeys(classes, share)
        answer = {"label": classes[0], "score": share, "scores": scores, "details": {}}
        models["Answer"]["examples"] = [answer]
        origin = {"id": "8f1c09d2a7b64e35", "version": version.name}
        models["Prediction"]["examples"] = [origin | answer]
        for name in ("TextFeedback", "PairFeedback"):
            if model := models.get(name):
                model["properties"]["label"]["enum"] = list(version.classes)
                model["examples"] = [model["examples"][0] | {"label": classes[0]}]
