"""PostgreSQL, MLflow and Prefect on this machine: python -m infra.servers up

All state lies in one folder. Secrets are made at the first start and stay in files of mode 0600:
they are never printed, nor part of a command line.
"""

import argparse
import http.client
import json
import os
import pwd
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil
from filelock import FileLock

from pipeline.errors import UserError

ROOT = Path(__file__).parent.parent
STATE = Path(".bertline/servers")
PACKAGED = Path("/usr/lib/postgresql")  # where Debian puts a folder a version
HOST = "127.0.0.1"
PORTS = {"mlflow": 5000, "prefect": 4200}
HEALTH = {"mlflow": "/health", "prefect": "/api/health"}
ORDER = ("postgres", "mlflow", "prefect")
DATABASES = {"mlflow": "mlflow", "mlflow_auth": "mlflow", "prefect": "prefect"}  # and whose each is
ADMIN = "bertline"  # at MLflow and at Prefect
PATIENCE = 180.0  # seconds for a server to be healthy, or to end
REAPED = 30.0  # seconds for the last of PostgreSQL's killed processes to be gone
LONGEST_SOCKET = 107  # bytes of a Unix socket's path
INITDB = ("--encoding=UTF8", "--locale=C", "--data-checksums", "--auth=reject")
# what another server's settings would change in ours
FOREIGN = ("MLFLOW_", "_MLFLOW_", "PREFECT_", "PG")
# PostgreSQL refuses to be run by root
POSTGRES_USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
AS_POSTGRES: dict[str, Any] = (
    {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
)


class Servers:
    """The three servers whose state lies in one folder."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.data = self.home / "postgres"
        self.record = self.home / "running.json"

    # what a person asks for

    def up(self, ports: dict[str, int]) -> None:
        """Start what does not run, and wait until all is healthy."""
        for name, port in ports.items():
            if self.port(name) != port and self.running(name):
                raise UserError(f"{name} runs on port {self.port(name)}: make servers-down first")
        ports = {name: ports.get(name, self.port(name)) for name in PORTS}
        for name, port in ports.items():
            if not self.running(name) and not _is_free(port):
                raise UserError(f"{HOST}:{port} is in use: give another --{name}-port")
        self._note("ports", ports)
        self._start_postgres()
        self._start_mlflow()
        self._start_prefect()
        for name in PORTS:
            self._wait(name)
        self._write_environment()

    def down(self) -> None:
        """Stop what runs; PostgreSQL last."""
        for name in reversed(ORDER):
            process = self.running(name)
            if process is None:
                continue
            # PostgreSQL's fast shutdown: sessions are ended, everything is written
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except psutil.TimeoutExpired:
                print(f"{name} does not end: killing it")
                process.kill()
                process.wait()
        if self.socket and not Path(self.socket).is_relative_to(self.home):
            shutil.rmtree(self.socket, ignore_errors=True)

    def status(self) -> bool:
        """Print a line a server. Returns whether all are healthy."""
        states = {name: self.healthy(name) for name in ORDER}
        for name, healthy in states.items():
            where = f"http://{HOST}:{self.port(name)}" if name in PORTS else self.socket or ""
            process = self.running(name)
            what = "healthy" if healthy else "not healthy" if process else "not running"
            print(f"{name:9} {what:12} {where if process else ''}".rstrip())
        return all(states.values())

    def backup(self, folder: Path) -> None:
        """Write databases, artifacts and secrets to a new folder, while the servers run."""
        if folder.exists():
            raise UserError(f"{folder}: exists already: name a new folder")
        if not self.healthy("postgres"):
            raise UserError("PostgreSQL does not run: make servers first")
        with _whole(folder.absolute()) as new:
            for name in DATABASES:
                with (new / f"{name}.dump").open("wb") as file:
                    self._postgres("pg_dump", "--format=custom", name, stdout=file)
            shutil.copytree(self.home / "secrets", new / "secrets")
            shutil.copytree(self.home / "artifacts", new / "artifacts")

    def restore(self, folder: Path) -> None:
        """Make the state anew from a backup; `up` then starts it."""
        if not (folder / "prefect.dump").is_file():
            raise UserError(f"{folder}: is not a backup")
        if self.home.exists() and any(self.home.iterdir()):
            raise UserError(f"{self.home}: holds servers already: move it away, or give --state")
        with _whole(self.home) as new:
            fresh = Servers(new)
            shutil.copytree(folder / "secrets", new / "secrets")
            shutil.copytree(folder / "artifacts", new / "artifacts")
            fresh._start_postgres()
            try:
                for name, owner in DATABASES.items():
                    with (folder / f"{name}.dump").open("rb") as file:
                        how = ("--exit-on-error", "--no-owner", f"--role={owner}", "--dbname", name)
                        fresh._postgres("pg_restore", *how, stdin=file)
            finally:
                fresh.down()
            fresh.record.unlink()

    # processes

    def running(self, name: str) -> psutil.Process | None:
        """The process that was started as that server; not another that was given its pid."""
        entry = self._read().get(name)
        if entry is None:
            return None
        try:
            process = psutil.Process(entry["pid"])
            gone = process.status() == psutil.STATUS_ZOMBIE
            return None if gone or _age_mark(process) != entry["age_mark"] else process
        except psutil.NoSuchProcess:
            return None

    def healthy(self, name: str) -> bool:
        if not self.running(name):
            return False
        if name == "postgres":
            return self._postgres("pg_isready", "--quiet", code=None) == 0
        asked = http.client.HTTPConnection(HOST, self.port(name), timeout=5)
        try:
            asked.request("GET", HEALTH[name])
            return asked.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            asked.close()

    def port(self, name: str) -> int:
        return int(self._read().get("ports", PORTS)[name])

    def _spawn(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        log = self.home / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                cwd=self.home,
                env=_environment() | environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **(AS_POSTGRES if name == "postgres" else {}),
            )
        mark = _age_mark(psutil.Process(process.pid))
        self._note(name, {"pid": process.pid, "age_mark": mark})

    def _wait(self, name: str) -> None:
        started = told = time.monotonic()
        while not self.healthy(name):
            log = self.home / "logs" / f"{name}.log"
            if not self.running(name):
                last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
                raise UserError(f"{name} has ended: {last} (all of it: {log})")
            now = time.monotonic()
            if now - started > PATIENCE:
                raise UserError(f"{name} is not healthy after {PATIENCE:.0f} s: see {log}")
            if now - told > 2:
                print(f"waiting for {name}", flush=True)
                told = now + 8
            time.sleep(0.2)

    def _read(self) -> dict[str, Any]:
        content = self.record.read_text() if self.record.exists() else "{}"
        return dict(json.loads(content))

    def _note(self, name: str, value: object) -> None:
        _write(self.record, json.dumps(self._read() | {name: value}))

    # PostgreSQL

    @property
    def socket(self) -> str | None:
        """The folder of PostgreSQL's socket."""
        return self._read().get("socket")

    def _start_postgres(self) -> None:
        self._tool("postgres")
        if AS_POSTGRES:
            self.home.chmod(0o711)  # may be passed through, not be read
            if subprocess.run(["test", "-x", self.home], cwd="/", **AS_POSTGRES).returncode:
                raise UserError(
                    f"{self.home}: the user postgres may not enter it, and root may not run"
                    " PostgreSQL: give another place, as --state /var/lib/bertline/servers"
                )
        if not self.data.exists():
            self._init_postgres()
        if not self.running("postgres"):
            self._note("socket", str(self._socket_folder()))
        killed = (self.data / "postmaster.pid").exists()
        started = time.monotonic()
        while True:
            try:
                self._run_postgres()
                break
            except UserError:
                if not killed or time.monotonic() - started > REAPED:
                    raise
                time.sleep(1)
        self._make_databases()

    def _socket_folder(self) -> Path:
        place = self.home / "socket"
        if len(os.fsencode(place / ".s.PGSQL.5432")) > LONGEST_SOCKET:
            used = self.socket if any(map(self.running, PORTS)) else None
            place = Path(used or tempfile.mkdtemp(prefix="bertline-", dir="/tmp"))
        place.mkdir(exist_ok=True)
        _give(place)
        return place

    def _run_postgres(self) -> None:
        if not self.running("postgres"):
            settings = {
                "listen_addresses": "",
                "unix_socket_directories": self.socket,
                "log_min_error_statement": "panic",  # a statement may hold a password
            }
            options = [part for k, v in settings.items() for part in ("-c", f"{k}={v}")]
            self._spawn("postgres", [self._tool("postgres"), "-D", str(self.data), *options], {})
        self._wait("postgres")

    def _make_databases(self) -> None:
        # passwords are set each time, so that they are those of the files
        script = "".join(
            f"SELECT 'CREATE ROLE {role} LOGIN' WHERE to_regrole('{role}') IS NULL \\gexec\n"
            f"ALTER ROLE {role} PASSWORD '{self._secret(f'postgres-{role}')}';\n"
            for role in dict.fromkeys(DATABASES.values())
        )
        script += "".join(
            f"SELECT 'CREATE DATABASE {name} OWNER {owner}' WHERE NOT EXISTS"
            f" (SELECT FROM pg_database WHERE datname = '{name}') \\gexec\n"
            f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;\n"
            for name, owner in DATABASES.items()
        )
        how = ("-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", "postgres")
        with tempfile.TemporaryFile() as file:
            file.write(script.encode())
            file.seek(0)
            self._postgres("psql", *how, stdin=file)

    def _init_postgres(self) -> None:
        with _whole(self.data) as new:
            _give(new)
            made = subprocess.run(
                [self._tool("initdb"), "--pgdata", new, "--username", POSTGRES_USER, *INITDB],
                cwd=self.home,
                env=_environment(),
                capture_output=True,
                text=True,
                **AS_POSTGRES,
            )
            if made.returncode:
                raise UserError(f"initdb: {made.stderr}")
            rules = f"local all {POSTGRES_USER} peer\nlocal all all scram-sha-256\n"
            (new / "pg_hba.conf").write_text(rules)

    def _postgres(
        self,
        tool: str,
        *arguments: str,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        code: int | None = 0,
    ) -> int:
        """Run a tool of PostgreSQL as its administrator. Raises UserError where it fails."""
        who = ("--host", self.socket or "", "--username", POSTGRES_USER)
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [self._tool(tool), *who, *arguments],
            cwd=self.home,
            env=_environment(),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            **AS_POSTGRES,
        )
        if code is not None and done.returncode != code:
            raise UserError(f"{tool}: {done.stderr.decode(errors='replace')}")
        return done.returncode

    def _tool(self, name: str) -> str:
        """A program of PostgreSQL: of the version that made the data, else the newest."""
        packaged = {path.parent.parent.name: path for path in PACKAGED.glob(f"*/bin/{name}")}
        made_by = self.data / "PG_VERSION"
        newest = max(packaged, key=float, default="")
        version = made_by.read_text().strip() if made_by.exists() else newest
        found = packaged.get(version) or shutil.which(name) or packaged.get(newest)
        if found is None:
            raise UserError("PostgreSQL is not installed: apt-get install postgresql")
        return str(found)

    def _database(self, driver: str, name: str) -> str:
        """A database's address; its password is in the environment, as PGPASSWORD."""
        return f"{driver}://{DATABASES[name]}@/{name}?host={self.socket}"

    # the other two

    def _start_mlflow(self) -> None:
        if self.running("mlflow"):
            return
        (self.home / "artifacts").mkdir(exist_ok=True)
        auth = self.home / "mlflow-auth.ini"
        _write(
            auth,
            "[mlflow]\n"
            "default_permission = READ\n"
            f"database_uri = {self._database('postgresql', 'mlflow_auth')}\n"
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
            "MLFLOW_AUTH_ADMIN_PASSWORD": self._secret("mlflow-admin"),
            "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
            "MLFLOW_AUTH_CONFIG_PATH": str(auth),
            "MLFLOW_BACKEND_STORE_URI": self._database("postgresql", "mlflow"),
            "MLFLOW_CRYPTO_KEK_PASSPHRASE": self._secret("mlflow-kek"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self._secret("mlflow-flask"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PGPASSWORD": self._secret("postgres-mlflow"),
        }
        self._spawn("mlflow", command, environment)

    def _start_prefect(self) -> None:
        if self.running("prefect"):
            return
        hosts = self._hosts("prefect")
        command = [sys.executable, "-m", "uvicorn", "--factory", "infra.prefect_app:create_app"]
        command += ["--host", HOST, "--port", str(self.port("prefect"))]
        command += ["--no-access-log", "--timeout-graceful-shutdown", "10"]
        environment = {
            "BERTLINE_HOSTS": hosts,
            "PGPASSWORD": self._secret("postgres-prefect"),
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_API_AUTH_STRING": f"{ADMIN}:{self._secret('prefect-auth')}",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": _origins(hosts),
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self._database(
                "postgresql+asyncpg", "prefect"
            ),
            "PREFECT_UI_API_URL": "/api",
            "PREFECT_UI_STATIC_DIRECTORY": str(self.home / "prefect" / "ui"),
        }
        self._spawn("prefect", command, environment)

    def _hosts(self, name: str) -> str:
        return ",".join(f"{host}:{self.port(name)}" for host in (HOST, "localhost"))

    # secrets

    def _secret(self, name: str) -> str:
        """A secret by name, made at its first use."""
        path = self.home / "secrets" / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            _write(path, secrets.token_hex(24))
        return path.read_text()

    def _write_environment(self) -> None:
        values = {
            "MLFLOW_TRACKING_URI": f"http://{HOST}:{self.port('mlflow')}",
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": self._secret("mlflow-admin"),
            "PREFECT_API_URL": f"http://{HOST}:{self.port('prefect')}/api",
            "PREFECT_API_AUTH_STRING": f"{ADMIN}:{self._secret('prefect-auth')}",
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        }
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in values.items()]
        _write(self.home / "env", "".join(lines))


def _environment() -> dict[str, str]:
    ours = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return ours | {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}


def _age_mark(process: psutil.Process) -> float:
    """When it was started, in seconds after the boot: a clock that is set does not move it."""
    return round(process.create_time() - psutil.boot_time(), 1)


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


def _give(folder: Path) -> None:
    """To whoever runs PostgreSQL, and to nobody else."""
    folder.chmod(0o700)
    if AS_POSTGRES:
        shutil.chown(folder, "postgres", "postgres")


def _write(path: Path, text: str) -> None:
    """A file for its owner's eyes, whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A new folder, whole or not at all."""
    new = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True, mode=0o700)
    try:
        yield new
        if folder.is_dir():
            folder.rmdir()
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.servers", description=__doc__)
    state: dict[str, Any] = {"type": Path, "help": f"folder of it all ({STATE})"}
    parser.add_argument("--state", default=STATE, **state)
    commands = parser.add_subparsers(required=True, dest="command")
    up = commands.add_parser("up", help="start what does not run, wait until all is healthy")
    for name, port in PORTS.items():
        up.add_argument(f"--{name}-port", type=int, help=f"({port}, or the last one)")
    commands.add_parser("down", help="stop them")
    commands.add_parser("status", help="say what runs; exit code 1 where not all is healthy")
    for name in ("backup", "restore"):
        commands.add_parser(name).add_argument("folder", type=Path, metavar="DIR")
    for each in commands.choices.values():  # before the command or behind it
        each.add_argument("--state", default=argparse.SUPPRESS, **state)
    given = parser.parse_args(arguments)
    try:
        return _call(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


def _call(given: argparse.Namespace) -> int:
    given.state.parent.mkdir(parents=True, exist_ok=True)
    os.umask(0o077)
    servers = Servers(given.state)
    with FileLock(f"{servers.home}.lock"):
        if given.command == "up":
            servers.home.mkdir(exist_ok=True)
            asked = {name: getattr(given, f"{name}_port") for name in PORTS}
            servers.up({name: port for name, port in asked.items() if port is not None})
            print(
                f"MLflow   http://{HOST}:{servers.port('mlflow')}\n"
                f"Prefect  http://{HOST}:{servers.port('prefect')}\n"
                f"both ask for a name and a password: they are in {given.state}/env\n"
                f"to use them here: set -a; . {given.state}/env; set +a"
            )
        elif given.command == "down":
            servers.down()
        elif given.command == "status":
            return 0 if servers.status() else 1
        elif given.command == "backup":
            servers.backup(given.folder)
            print(f"{given.folder}: it holds the secrets too: keep it private")
        else:
            servers.restore(given.folder)
            own = "" if given.state == STATE else f" ARGS='--state {given.state}'"
            print(f"{given.state} is restored; next: make servers{own}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
