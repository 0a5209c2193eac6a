"""PostgreSQL, MLflow and Prefect on this machine: python -m infra.servers up

All their state is in one folder.
"""

import argparse
import http.client
import os
import shlex
import shutil
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from infra.postgres import DATABASES, Postgres
from infra.processes import Processes, whole_folder, write_private
from pipeline.core.errors import UserError

STATE = Path(".bertline/servers")
HOST = "127.0.0.1"
PORTS = {"mlflow": 5000, "prefect": 4200}
HEALTH = {"mlflow": "/health", "prefect": "/api/health"}
ADMIN = "bertline"  # at MLflow and at Prefect


class Servers:
    """Three servers whose state is in one folder."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.processes = Processes(self.home)
        self.postgres = Postgres(self.processes)

    # commands

    def up(self, ports: dict[str, int]) -> None:
        """Start servers that do not run, and wait until all are healthy."""
        for name, port in ports.items():
            if self.port(name) != port and self.processes.running(name):
                raise UserError(f"{name} runs on port {self.port(name)}: make servers-down first")
        ports = {name: ports.get(name, self.port(name)) for name in PORTS}
        for name, port in ports.items():
            if not self.processes.running(name) and not _is_free(port):
                raise UserError(f"{HOST}:{port} is in use: give another --{name}-port")
        self.processes.note("ports", ports)
        self.postgres.start()
        self._start_mlflow()
        self._start_prefect()
        for name in PORTS:
            self.processes.wait(name, partial(self.healthy, name))
        self._write_environment()

    def down(self) -> None:
        """Stop the servers, PostgreSQL last."""
        for name in reversed(PORTS):
            self.processes.stop(name, signal.SIGTERM)
        self.postgres.stop()

    def status(self) -> bool:
        """Print one line for each server. Returns True if all are healthy."""
        states = {
            "postgres": self.postgres.healthy(),
            **{name: self.healthy(name) for name in PORTS},
        }
        for name, healthy in states.items():
            address = f"http://{HOST}:{self.port(name)}" if name in PORTS else self.postgres.socket
            process = self.processes.running(name)
            state = "healthy" if healthy else "not healthy" if process else "not running"
            print(f"{name:9} {state:12} {address if process else ''}".rstrip())
        return all(states.values())

    def backup(self, folder: Path) -> None:
        """Write databases, artifacts and secrets to a new folder, while the servers run."""
        if folder.exists():
            raise UserError(f"{folder}: exists already: name a new folder")
        if not self.postgres.healthy():
            raise UserError("PostgreSQL does not run: make servers first")
        with whole_folder(folder.absolute()) as new:
            for name in DATABASES:
                self.postgres.dump(name, new / f"{name}.dump")
            shutil.copytree(self.home / "secrets", new / "secrets")
            shutil.copytree(self.home / "artifacts", new / "artifacts")

    def restore(self, folder: Path) -> None:
        """Restore the state from a backup; `up` then starts the servers."""
        if not (folder / "prefect.dump").is_file():
            raise UserError(f"{folder}: is not a backup")
        if self.home.exists() and any(self.home.iterdir()):
            raise UserError(f"{self.home}: holds servers already: move it away, or give --state")
        with whole_folder(self.home) as new:
            fresh = Servers(new)
            shutil.copytree(folder / "secrets", new / "secrets")
            shutil.copytree(folder / "artifacts", new / "artifacts")
            fresh.postgres.start()
            try:
                for name in DATABASES:
                    fresh.postgres.load(name, folder / f"{name}.dump")
            finally:
                fresh.down()
            fresh.processes.record.unlink()

    def healthy(self, name: str) -> bool:
        """True if MLflow or Prefect answers."""
        if not self.processes.running(name):
            return False
        connection = http.client.HTTPConnection(HOST, self.port(name), timeout=5)
        try:
            connection.request("GET", HEALTH[name])
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def port(self, name: str) -> int:
        return int((self.processes.noted("ports") or PORTS)[name])

    # starting

    def _start_mlflow(self) -> None:
        if self.processes.running("mlflow"):
            return
        (self.home / "artifacts").mkdir(exist_ok=True)
        auth = self.home / "mlflow-auth.ini"
        write_private(
            auth,
            "[mlflow]\n"
            "default_permission = READ\n"
            f"database_uri = {self.postgres.address('postgresql', 'mlflow_auth')}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            "auth_cache_ttl_seconds = 60\n",  # hashing a password takes longer than most answers
        )
        hosts = self._hosts("mlflow")
        command = [sys.executable, "-m", "infra.mlflow_app", "server", "--app-name", "basic-auth"]
        command += ["--host", HOST, "--port", str(self.port("mlflow")), "--workers", "1"]
        command += ["--serve-artifacts", "--artifacts-destination", str(self.home / "artifacts")]
        command += ["--allowed-hosts", hosts, "--cors-allowed-origins", _origins(hosts)]
        command += ["--uvicorn-opts", "--no-access-log --timeout-graceful-shutdown 10"]
        environment = {
            "BERTLINE_HOSTS": hosts,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.processes.secret("mlflow-admin"),
            "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
            "MLFLOW_AUTH_CONFIG_PATH": str(auth),
            "MLFLOW_BACKEND_STORE_URI": self.postgres.address("postgresql", "mlflow"),
            "MLFLOW_CRYPTO_KEK_PASSPHRASE": self.processes.secret("mlflow-kek"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.processes.secret("mlflow-flask"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PGPASSWORD": self.processes.secret("postgres-mlflow"),
        }
        self.processes.start("mlflow", command, environment)

    def _start_prefect(self) -> None:
        if self.processes.running("prefect"):
            return
        hosts = self._hosts("prefect")
        command = [sys.executable, "-m", "uvicorn", "--factory", "infra.prefect_app:create_app"]
        command += ["--host", HOST, "--port", str(self.port("prefect"))]
        command += ["--no-access-log", "--timeout-graceful-shutdown", "10"]
        environment = {
            "BERTLINE_HOSTS": hosts,
            "PGPASSWORD": self.processes.secret("postgres-prefect"),
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_API_AUTH_STRING": f"{ADMIN}:{self.processes.secret('prefect-auth')}",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": _origins(hosts),
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.postgres.address(
                "postgresql+asyncpg", "prefect"
            ),
            "PREFECT_UI_API_URL": "/api",
            "PREFECT_UI_STATIC_DIRECTORY": str(self.home / "prefect" / "ui"),
        }
        self.processes.start("prefect", command, environment)

    def _hosts(self, name: str) -> str:
        return ",".join(f"{host}:{self.port(name)}" for host in (HOST, "localhost"))

    def _write_environment(self) -> None:
        values = {
            "MLFLOW_TRACKING_URI": f"http://{HOST}:{self.port('mlflow')}",
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": self.processes.secret("mlflow-admin"),
            "PREFECT_API_URL": f"http://{HOST}:{self.port('prefect')}/api",
            "PREFECT_API_AUTH_STRING": f"{ADMIN}:{self.processes.secret('prefect-auth')}",
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        }
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in values.items()]
        write_private(self.home / "env", "".join(lines))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
        return True


def _origins(hosts: str) -> str:
    return ",".join(f"http://{host}" for host in hosts.split(","))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.servers", description=__doc__)
    state: dict[str, Any] = {"type": Path, "help": f"folder of all state ({STATE})"}
    parser.add_argument("--state", default=STATE, **state)
    commands = parser.add_subparsers(required=True, dest="command")
    up = commands.add_parser("up", help="start the servers, wait until all are healthy")
    for name, port in PORTS.items():
        up.add_argument(f"--{name}-port", type=int, help=f"({port}, or the last one)")
    commands.add_parser("down", help="stop the servers")
    commands.add_parser("status", help="list the servers; exit code 1 unless all are healthy")
    for name in ("backup", "restore"):
        commands.add_parser(name).add_argument("folder", type=Path, metavar="DIR")
    for each in commands.choices.values():  # --state before or after the command
        each.add_argument("--state", default=argparse.SUPPRESS, **state)
    try:
        return _call(parser.parse_args(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


def _call(args: argparse.Namespace) -> int:
    args.state.parent.mkdir(parents=True, exist_ok=True)
    os.umask(0o077)
    servers = Servers(args.state)
    with FileLock(f"{servers.home}.lock"):
        if args.command == "up":
            servers.home.mkdir(exist_ok=True)
            ports = {name: getattr(args, f"{name}_port") for name in PORTS}
            servers.up({name: port for name, port in ports.items() if port is not None})
            print(
                f"MLflow   http://{HOST}:{servers.port('mlflow')}\n"
                f"Prefect  http://{HOST}:{servers.port('prefect')}\n"
                f"user name and password of both are in {args.state}/env\n"
                f"to use them in this shell: set -a; . {args.state}/env; set +a"
            )
        elif args.command == "down":
            servers.down()
        elif args.command == "status":
            return 0 if servers.status() else 1
        elif args.command == "backup":
            servers.backup(args.folder)
            print(f"{args.folder}: holds the secrets too: keep it private")
        else:
            servers.restore(args.folder)
            own = "" if args.state == STATE else f" ARGS='--state {args.state}'"
            print(f"{args.state} is restored; next: make servers{own}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
