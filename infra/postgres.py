"""PostgreSQL for the servers of one folder, reached by a socket alone."""

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
PACKAGED = Path("/usr/lib/postgresql")  # where Debian puts a folder a version
DATABASES = {"mlflow": "mlflow", "mlflow_auth": "mlflow", "prefect": "prefect"}  # and whose each is
ROLES = CLIENTS = ("mlflow", "prefect")  # a role for each server that asks it
REAPED = 30.0  # seconds for the last of PostgreSQL's killed processes to be gone
LONGEST_SOCKET = 107  # bytes of a Unix socket's path
INITDB = ("--encoding=UTF8", "--locale=C", "--data-checksums", "--auth=reject")
# PostgreSQL refuses to be run by root
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
        """The folder of its socket."""
        found: str | None = self.processes.noted("socket")
        return found

    def address(self, driver: str, name: str) -> str:
        """A database's; its password is in the environment, as PGPASSWORD."""
        return f"{driver}://{DATABASES[name]}@/{name}?host={self.socket}"

    def start(self) -> None:
        """Start it where it does not run; then all databases are there."""
        self._tool("postgres")
        if AS_POSTGRES:
            self.home.chmod(0o711)  # may be passed through, not be read
            if subprocess.run(["test", "-x", self.home], cwd="/", **AS_POSTGRES).returncode:
                raise UserError(
                    f"{self.home}: the user postgres may not enter it, and root may not run"
                    " PostgreSQL: give another place, as --state /var/lib/bertline/servers"
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
        self.processes.stop(NAME, signal.SIGINT)  # fast: sessions are ended, everything is written
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
            how = ("--exit-on-error", "--no-owner", f"--role={DATABASES[name]}", "--dbname", name)
            self._call("pg_restore", *how, stdin=stream)

    def _socket_folder(self) -> Path:
        place = self.home / "socket"
        if len(os.fsencode(place / ".s.PGSQL.5432")) > LONGEST_SOCKET:
            used = self.socket if any(map(self.processes.running, CLIENTS)) else None
            place = Path(used or tempfile.mkdtemp(prefix="bertline-", dir="/tmp"))
        place.mkdir(exist_ok=True)
        _give(place)
        return place

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
        # passwords are set each time, so that they are those of the files
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
        how = ("-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", "postgres")
        with tempfile.TemporaryFile() as file:
            file.write(script.encode())
            file.seek(0)
            self._call("psql", *how, stdin=file)

    def _init(self) -> None:
        with whole_folder(self.data) as new:
            _give(new)
            made = subprocess.run(
                [self._tool("initdb"), "--pgdata", new, "--username", POSTGRES_USER, *INITDB],
                cwd=self.home,
                env=clean_environment(),
                capture_output=True,
                text=True,
                **AS_POSTGRES,
            )
            if made.returncode:
                raise UserError(f"initdb: {made.stderr}")
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
        """Run a tool of PostgreSQL as its administrator. Raises UserError where it fails."""
        who = ("--host", self.socket or "", "--username", POSTGRES_USER)
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [self._tool(tool), *who, *arguments],
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
        """A program of PostgreSQL: of the version that made the data, else the newest."""
        packaged = {path.parent.parent.name: path for path in PACKAGED.glob(f"*/bin/{name}")}
        made_by = self.data / "PG_VERSION"
        newest = max(packaged, key=float, default="")
        version = made_by.read_text().strip() if made_by.exists() else newest
        found = packaged.get(version) or shutil.which(name) or packaged.get(newest)
        if found is None:
            raise UserError("PostgreSQL is not installed: apt-get install postgresql")
        return str(found)


def _give(folder: Path) -> None:
    """To whoever runs PostgreSQL, and to nobody else."""
    folder.chmod(0o700)
    if AS_POSTGRES:
        shutil.chown(folder, "postgres", "postgres")
