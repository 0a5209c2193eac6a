"""MLflow's server with our guard in front: python -m infra.mlflow_app server --app-name basic-auth

MLflow's command prepares all as it always does, then gives way to the one process that serves.
"""

import os

from infra.guard import App, Guard


def create_app() -> App:
    from mlflow.server import auth

    def knows(name: str, password: str) -> bool:
        return auth._authenticate_cached(name, password) is not None

    return Guard(auth.create_app(), "/health", knows)


def _become(command: list[str], *, extra_env: dict[str, str], **_: object) -> None:
    os.execve(command[0], command, os.environ | extra_env)


if __name__ == "__main__":
    import mlflow.server
    from mlflow.cli import cli

    mlflow.server._find_app = lambda _: "infra.mlflow_app:create_app"
    mlflow.server._exec_cmd = _become
    cli()
