"""Prefect's server behind the guard: uvicorn --factory infra.prefect_app:create_app."""

import hmac
import os

from infra.guard import App, Guard


def create_app() -> App:
    from prefect.server.api.server import create_app

    expected = os.environ["PREFECT_SERVER_API_AUTH_STRING"].encode()

    def verify(name: str, password: str) -> bool:
        return hmac.compare_digest(f"{name}:{password}".encode(), expected)

    return Guard(create_app(final=True), "/api/health", verify)
