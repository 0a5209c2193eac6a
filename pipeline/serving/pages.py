"""Static pages: one to try the champion and one that documents the API."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.responses import FileResponse

OWN = Path(__file__).parent / "page"
SWAGGER = "fastapi_offline/static"  # Swagger UI, which this package carries
PATHS = {
    "/": "page.html",
    "/page.css": "page.css",
    "/page.js": "page.js",
    "/icon.svg": "icon.svg",
    "/docs": "docs.html",
    "/docs.css": "docs.css",
    "/docs.js": "docs.js",
    "/docs/swagger-ui.css": f"{SWAGGER}/swagger-ui.css",
    "/docs/swagger-ui-bundle.js": f"{SWAGGER}/swagger-ui-bundle.js",
}

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


def add_pages(app: FastAPI) -> None:
    for path in PATHS:
        app.get(path, include_in_schema=False)(_page)


async def _page(request: Request) -> Response:
    path = request.scope["path"]
    cache_control = "max-age=86400" if path.startswith("/docs/") else "no-cache"
    return FileResponse(file_of(path), headers=HEADERS | {"cache-control": cache_control})


@cache
def file_of(path: str) -> Path:
    name = PATHS[path]
    folder, _, rest = name.partition("/")
    if not rest:
        return OWN / name
    spec = find_spec(folder)
    assert spec and spec.origin, f"{folder} is a dependency of serving"
    return Path(spec.origin).parent / rest
