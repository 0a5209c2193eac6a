"""PostgreSQL for the servers of one folder, reached only through a Unix socket."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from infra.processes import Processes, clean_environment, whole_folder
from pipeline.core.errors import UserError

NAME = "postgres"
PACKAGED = Path("/usr/lib/postgresql")  # Debian's packages: a subfolder for each version
DATABASES = {"mlflow": "mlflow", "mlflow_auth": "mlflow", "prefect": "prefect"}  # and their owners
ROLES = ("mlflow", "prefect")  # one for each server that uses PostgreSQL, with the server's name
REAPED = 30.0  # seconds until all processes of a killed PostgreSQL have ended
LONGEST_SOCKET = 107  # bytes of the path of a Unix socket
INITDB = ("--encoding=UTF8", "--locale=C", "--data-checksums", "--auth=reject")
# PostgreSQL refuses to run as root
POSTGRES_USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
AS_POSTGRES: dict[str, Any] = (
    {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
)


class Postgres:
    def __init__(self, processes: Processes) -> None:
        self.processes, self.home = processes, processes.home
        self.data = self.home / "postgres"

    @property
    def socket(self) -> str | None:
        """Folder of its socket; None before the first start."""
        folder: str | None = self.processes.noted("socket")
        return folder

    def address(self, driver: str, name: str) -> str:
        """Return the URL of a database. The password is passed as PGPASSWORD in the environment."""
        return f"{driver}://{DATABASES[name]}@/{name}?host={self.socket}"

    def start(self) -> None:
        """Start PostgreSQL if it does not run, and create missing roles and databases."""
        self._tool("postgres")
        if AS_POSTGRES:
            self.home.chmod(0o711)  # others can enter it, not list it
            if subprocess.run(["test", "-x", self.home], cwd="/", **AS_POSTGRES).returncode:
                raise UserError(
                    f"{self.home}: the user postgres cannot enter it, and PostgreSQL cannot run as"
                    " root: use another folder, such as --state /var/lib/bertline/servers"
                )
        if not self.data.exists():
            self._init()
        if not self.processes.running(NAME):
            self.processes.note("socket", str(self._socket_folder()))
        killed = (self.data / "postmaster.pid").exists()
        started = time.monotonic()
        while True:
            try:
                self._run()
                break
            except UserError:
                if not killed or time.monotonic() - started > REAPED:
                    raise
                time.sleep(1)
        self._make_databases()

    def stop(self) -> None:
        self.processes.stop(NAME, signal.SIGINT)  # fast shutdown: ends sessions, writes all data
        if self.socket and not Path(self.socket).is_relative_to(self.home):
            shutil.rmtree(self.socket, ignore_errors=True)

    def healthy(self) -> bool:
        ready = self.processes.running(NAME) and self._call("pg_isready", "--quiet", code=None) == 0
        return bool(ready)

    def dump(self, name: str, file: Path) -> None:
        with file.open("wb") as stream:
            self._call("pg_dump", "--format=custom", name, stdout=stream)

    def load(self, name: str, file: Path) -> None:
        with file.open("rb") as stream:
            role = f"--role={DATABASES[name]}"
            options = ("--exit-on-error", "--no-owner", role, "--dbname", name)
            self._call("pg_restore", *options, stdin=stream)

    def _socket_folder(self) -> Path:
        folder = self.home / "socket"
        if len(os.fsencode(folder / ".s.PGSQL.5432")) > LONGEST_SOCKET:
            used = self.socket if any(map(self.processes.running, ROLES)) else None
            folder = Path(used or tempfile.mkdtemp(prefix="bertline-", dir="/tmp"))
        folder.mkdir(exist_ok=True)
        _make_private(folder)
        return folder

    def _run(self) -> None:
        if not self.processes.running(NAME):
            settings = {
                "listen_addresses": "",
                "unix_socket_directories": self.socket,
                "log_min_error_statement": "panic",  # a statement may hold a password
            }
            options = [part for k, v in settings.items() for part in ("-c", f"{k}={v}")]
            command = [self._tool("postgres"), "-D", str(self.data), *options]
            self.processes.start(NAME, command, {}, **AS_POSTGRES)
        self.processes.wait(NAME, self.healthy)

    def _make_databases(self) -> None:
        # passwords are set at each start, so that they match the secret files
        script = "".join(
            f"SELECT 'CREATE ROLE {role} LOGIN' WHERE to_regrole('{role}') IS NULL \\gexec\n"
            f"ALTER ROLE {role} PASSWORD '{self.processes.secret(f'postgres-{role}')}';\n"
            for role in ROLES
        )
        script += "".join(
            f"SELECT 'CREATE DATABASE {name} OWNER {owner}' WHERE NOT EXISTS"
            f" (SELECT FROM pg_database WHERE datname = '{name}') \\gexec\n"
            f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;\n"
            for name, owner in DATABASES.items()
        )
        options = ("-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", "postgres")
        with tempfile.TemporaryFile() as file:
            file.write(script.encode())
            file.seek(0)
            self._call("psql", *options, stdin=file)

    def _init(self) -> None:
        with whole_folder(self.data) as new:
            _make_private(new)
            done = subprocess.run(
                [self._tool("initdb"), "--pgdata", new, "--username", POSTGRES_USER, *INITDB],
                cwd=self.home,
                env=clean_environment(),
                capture_output=True,
                text=True,
                **AS_POSTGRES,
            )
            if done.returncode:
                raise UserError(f"initdb: {done.stderr}")
            rules = f"local all {POSTGRES_USER} peer\nlocal all all scram-sha-256\n"
            (new / "pg_hba.conf").write_text(rules)

    def _call(
        self,
        tool: str,
        *arguments: str,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        code: int | None = 0,
    ) -> int:
        """Run a tool of PostgreSQL as its administrator and return the exit code.

        Raises UserError if it is not `code`, unless that is None.
        """
        login = ("--host", self.socket or "", "--username", POSTGRES_USER)
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [self._tool(tool), *login, *arguments],
            cwd=self.home,
            env=clean_environment(),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            **AS_POSTGRES,
        )
        if code is not None and done.returncode != code:
            raise UserError(f"{tool}: {done.stderr.decode(errors='replace')}")
        return done.returncode

    def _tool(self, name: str) -> str:
        """Return the path of a PostgreSQL program, in the version of the data, else the newest."""
        packaged = {path.parent.parent.name: path for path in PACKAGED.glob(f"*/bin/{name}")}
        version_file = self.data / "PG_VERSION"
        newest = max(packaged, key=float, default="")
        version = version_file.read_text().strip() if version_file.exists() else newest
        found = packaged.get(version) or shutil.which(name) or packaged.get(newest)
        if found is None:
            raise UserError("PostgreSQL is not installed: apt-get install postgresql")
        return str(found)


def _make_private(folder: Path) -> None:
    """Make a folder accessible only to the user that runs PostgreSQL."""
    folder.chmod(0o700)
    if AS_POSTGRES:
        shutil.chown(folder, "postgres", "postgres")
