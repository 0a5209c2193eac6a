"""MLflow's server behind the guard: python -m infra.mlflow_app server --app-name basic-auth

MLflow's own command prepares everything; then the server process replaces it.
"""

import os

from infra.guard import App, Guard


def create_app() -> App:
    from mlflow.server import auth

    def verify(name: str, password: str) -> bool:
        return auth._authenticate_cached(name, password) is not None

    return Guard(auth.create_app(), "/health", verify)


def _exec(command: list[str], *, extra_env: dict[str, str], **_: object) -> None:
    os.execve(command[0], command, os.environ | extra_env)


if __name__ == "__main__":
    import mlflow.server
    from mlflow.cli import cli

    mlflow.server._find_app = lambda _: "infra.mlflow_app:create_app"
    mlflow.server._exec_cmd = _exec
    cli()
