"""Messages of the supervisor to a worker, and its reaction to failures."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.core.errors import Unavailable, UserError
from pipeline.core.files import write_json
from pipeline.serving import supervisor
from pipeline.serving.settings import KEYS, api_keys
from pipeline.serving.spec import Champion, Look, Spec, as_json
from pipeline.serving.supervisor import TRIES, ServerOptions, Supervisor, serve
from tests.pipeline.serving.toys import make_version

Specs = Callable[[str], Spec]


@pytest.fixture
def specs(tmp_path: Path) -> Specs:
    """Return versions by number, whose folders hold one file."""

    def spec(number: str) -> Spec:
        folder = tmp_path / "versions" / number
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "model").exists():
            (folder / "model").write_text(number)
        return Spec(number, str(folder), {"model": number})

    return spec


class Told(Supervisor):
    """Supervisor that records its messages and starts no worker."""

    def __init__(self, service: ServerOptions) -> None:
        self.said: list[Any] = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            super().__init__(service, listening)
        self.listener = socket.create_server(("127.0.0.1", 0))

    def _send(self, message: dict[str, Any]) -> None:
        served = message.get("serve")
        self.said.append(served["number"] if served else next(iter(message)))

    def asked_for(self) -> list[Any]:
        """Return the messages since the last call."""
        said, self.said = self.said, []
        return said

    def serving(self, number: str) -> None:
        self._receive({"serving": number, "tuning": {"batch": 4}})

    def refuses(self, number: str) -> None:
        self._receive({"refused": number, "reason": f"model of toy/{number} has changed"})


@pytest.fixture
def service(tmp_path: Path) -> ServerOptions:
    return ServerOptions("toy", "sqlite://", tmp_path / "state" / "toy.json", tmp_path)


@pytest.fixture
def keeper(service: ServerOptions) -> Iterator[Told]:
    told = Told(service)
    yield told
    told.listener.close()


def test_the_champion_is_asked_for_once_and_confirmed_when_it_answers(
    keeper: Told, specs: Specs
) -> None:
    for _ in range(3):
        keeper.on_look(Look(specs("1")))
    assert keeper.asked_for() == ["1"]
    keeper.serving("1")
    keeper.on_look(Look(specs("1")))
    assert keeper.asked_for() == ["confirmed"]


def test_what_was_served_last_is_kept_with_the_one_before_and_its_tuning(
    keeper: Told, specs: Specs, service: ServerOptions
) -> None:
    for number in ("1", "2"):
        keeper.on_look(Look(specs(number)))
        keeper.serving(number)
    again = Supervisor(service, keeper.listener)
    assert (again.served, again.previous, again.tuning) == (specs("2"), specs("1"), {"batch": 4})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"served": 1, "previous": {}, "tuning": 0}'])
def test_a_broken_file_of_what_was_served_is_as_none(service: ServerOptions, content: str) -> None:
    service.state.parent.mkdir()
    service.state.write_text(content)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert Supervisor(service, listening).served is None


def test_a_refused_version_is_asked_for_again_only_when_its_files_change(
    keeper: Told, specs: Specs
) -> None:
    keeper.on_look(Look(specs("1")))
    keeper.serving("1")
    keeper.on_look(Look(specs("2")))
    keeper.refuses("2")
    keeper.asked_for()
    for _ in range(3):
        keeper.on_look(Look(specs("2")))
    assert keeper.asked_for() == []
    assert keeper.failure is None
    (Path(specs("2").folder) / "model").write_text("mended")
    keeper.on_look(Look(specs("2")))
    keeper.on_look(Look(specs("2")))
    assert keeper.asked_for() == ["2"]


def test_a_refused_version_is_asked_for_again_when_the_alias_returns_to_it(
    keeper: Told, specs: Specs
) -> None:
    for number, does in (("1", keeper.serving), ("2", keeper.refuses), ("1", keeper.serving)):
        keeper.on_look(Look(specs(number)))
        does(number)
    keeper.asked_for()
    keeper.on_look(Look(specs("2")))
    assert keeper.asked_for() == ["2"]


def test_the_alias_goes_back_while_another_is_tried_out(keeper: Told, specs: Specs) -> None:
    for number in ("1", "2"):
        keeper.on_look(Look(specs(number)))
        keeper.serving(number)
    keeper.on_look(Look(specs("3")))
    keeper.asked_for()
    keeper.on_look(Look(specs("2")))
    assert keeper.asked_for() == ["2"]
    keeper.serving("3")  # it was loaded before our message arrived
    keeper.serving("2")
    assert keeper.served == specs("2")


def test_nobody_to_serve_ends_it_in_one_line(keeper: Told) -> None:
    keeper.on_look(Look(None, "toy: has no champion yet"))
    assert str(keeper.failure) == "toy: has no champion yet"
    assert keeper.ending.is_set()


def test_a_first_champion_that_is_refused_ends_it_in_one_line(keeper: Told, specs: Specs) -> None:
    keeper.on_look(Look(specs("1")))
    keeper.refuses("1")
    assert str(keeper.failure) == "model of toy/1 has changed"


def _restarted(service: ServerOptions, specs: Specs) -> Told:
    kept = {"served": as_json(specs("2")), "previous": as_json(specs("1")), "tuning": None}
    write_json(service.state, kept)
    return Told(service)


def test_without_word_of_the_champion_what_was_served_last_goes_on(
    service: ServerOptions, specs: Specs
) -> None:
    keeper = _restarted(service, specs)
    keeper.serving("2")
    assert keeper.asked_for() == []
    keeper.on_look(Look(None, "MLflow does not answer"))
    assert keeper.asked_for() == ["confirmed"]
    assert keeper.failure is None
    keeper.listener.close()


def test_a_silent_mlflow_is_waited_for_only_so_long(service: ServerOptions, specs: Specs) -> None:
    keeper = _restarted(service, specs)
    keeper._without_mlflow()
    assert keeper.asked_for() == ["confirmed"]
    keeper.listener.close()


def test_after_a_restart_a_damaged_version_gives_way_to_the_one_before(
    service: ServerOptions, specs: Specs
) -> None:
    keeper = _restarted(service, specs)
    keeper.refuses("2")
    assert keeper.asked_for() == ["1"]
    keeper.on_look(Look(specs("2")))
    assert keeper.asked_for() == []
    keeper.serving("1")
    assert keeper.asked_for() == ["confirmed"]
    assert keeper.failure is None
    keeper.listener.close()


def test_a_version_that_ends_its_worker_is_refused_after_a_few_tries(
    keeper: Told, specs: Specs
) -> None:
    keeper.on_look(Look(specs("1")))
    keeper.serving("1")
    keeper.on_look(Look(specs("2")))
    for _ in range(TRIES - 1):
        keeper._blame(answered=True)
        assert keeper.pending == specs("2")
    keeper._blame(answered=True)
    assert keeper.pending is None
    assert keeper.refused["2"][0] == "toy/2 is not served: the worker exits while loading it"
    keeper._blame(answered=True)  # a worker that exits while no version is pending


def test_the_version_served_last_is_blamed_where_no_worker_comes_to_serve_it(
    service: ServerOptions, specs: Specs
) -> None:
    keeper = _restarted(service, specs)
    for _ in range(TRIES):
        assert "2" not in keeper.refused
        keeper._blame(answered=False)
    assert keeper.refused["2"][0] == "toy/2 is not served: the worker exits while loading it"
    assert keeper.pending == specs("1")
    keeper.listener.close()


def test_without_another_version_the_one_served_last_is_tried_again_and_again(
    service: ServerOptions, specs: Specs
) -> None:
    keeper = _restarted(service, specs)
    keeper.previous = None
    for _ in range(2 * TRIES):
        keeper._blame(answered=False)
    assert not keeper.refused
    keeper.listener.close()


def test_a_version_mended_while_it_was_tried_is_tried_again(keeper: Told, specs: Specs) -> None:
    keeper.on_look(Look(specs("1")))
    keeper.serving("1")
    keeper.on_look(Look(specs("2")))
    folder = Path(specs("2").folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mended").write_text("")
    keeper.refuses("2")
    keeper.on_look(Look(specs("2")))
    assert keeper.pending == specs("2")


def test_a_worker_that_cannot_be_started_is_tried_again(
    keeper: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[int] = []

    async def start() -> asyncio.StreamReader:
        tried.append(len(tried))
        if len(tried) == 3:
            keeper.ending.set()
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(keeper, "_start", start)
    monkeypatch.setattr("pipeline.serving.supervisor.LONGEST_PAUSE", 0.01)
    asyncio.run(keeper._keep(None))  # type: ignore[arg-type]
    assert len(tried) == 3
    assert capsys.readouterr().err.count("worker not started") == 2


# start


def test_a_host_that_others_reach_needs_keys(
    service: ServerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEYS, raising=False)
    with pytest.raises(UserError, match=rf"^0\.0\.0\.0 can be reached from elsewhere: set {KEYS}"):
        serve(replace(service, host="0.0.0.0"))


def test_a_port_that_is_taken_is_told(
    service: ServerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.serving.listening.LINGERS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"^127\.0\.0\.1:{port}: cannot be listened on"):
            serve(replace(service, port=port))


def test_keys_are_read_and_a_wrong_one_is_not_quoted() -> None:
    assert api_keys({KEYS: " one, two,,"}) == {"one", "two"}
    assert api_keys({}) == frozenset()
    with pytest.raises(UserError, match=f"^{KEYS}: key 2: ") as refused:
        api_keys({KEYS: "one,swördfish"})
    assert "fish" not in str(refused.value)


# checks of the alias


class Registry:
    """Fake of the MLflow registry."""

    def __init__(self, tracking: str) -> None:
        self.tracking = tracking
        self.copies: Any = None
        self.fetched: dict[str, Path] = {}
        self.number: str | None = None
        self.away = False
        self.fetches = 0
        self.folders: dict[str, Path] = {}
        self.listed: dict[str, dict[str, str]] = {}

    def champion(self, recipe: str) -> str | None:
        return None if self.away else self.number

    def files(self, recipe: str, number: str) -> dict[str, str]:
        return self.listed[number]

    def folder(self, recipe: str, number: str) -> Path:
        self.fetches += 1
        return self.folders[number]

    def add(self, folder: Path, number: str) -> None:
        self.listed[number] = make_version(folder)
        self.folders[number] = folder
        self.number = number


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = Registry("")

    def connect(tracking: str) -> None:
        if found.away:
            raise Unavailable("MLflow does not answer")

    monkeypatch.setattr("pipeline.registry.versions.Registry", lambda tracking: found)
    monkeypatch.setattr("pipeline.registry.client.connect", connect)
    return found


def looking(tmp_path: Path) -> Champion:
    return Champion("toy", "sqlite://", tmp_path / "copies", 0.01, lambda look: None, set)


def test_a_version_of_a_local_store_is_used_where_it_lies(
    registry: Registry, tmp_path: Path
) -> None:
    registry.add(tmp_path / "1", "1")
    champion = looking(tmp_path)
    for _ in range(2):
        look = champion.look()
        assert look.spec == Spec("1", str(tmp_path / "1"), registry.listed["1"])
    assert registry.fetches == 1


def test_a_servers_version_is_copied_once_and_mended_when_the_copy_is_damaged(
    registry: Registry, tmp_path: Path
) -> None:
    class Copies:
        name = str(tmp_path / "fetched")

    registry.copies = Copies()
    for number in "1234":
        registry.add(tmp_path / "fetched" / number, number)
        look = looking(tmp_path).look()
        assert look.spec
        assert look.spec.folder == str(tmp_path / "copies" / number)
    assert not (tmp_path / "fetched" / "4").exists()
    assert looking(tmp_path).look() == look
    assert registry.fetches == 4
    (tmp_path / "copies" / "4" / "MLmodel").write_text("damaged")
    make_version(tmp_path / "fetched" / "4")
    assert looking(tmp_path).look() == look
    assert registry.fetches == 5
    assert sorted(copy.name for copy in (tmp_path / "copies").iterdir()) == ["2", "3", "4"]


def test_a_copy_in_hand_is_kept_however_old(registry: Registry, tmp_path: Path) -> None:
    class Copies:
        name = str(tmp_path / "fetched")

    registry.copies = Copies()
    champion = Champion(
        "toy", "sqlite://", tmp_path / "copies", 0.01, lambda look: None, lambda: {"2"}
    )
    (tmp_path / "copies" / ".5.77.partial").mkdir(parents=True)
    for number in "12345":
        registry.add(tmp_path / "fetched" / number, number)
        assert champion.look().spec
    kept = sorted(copy.name for copy in (tmp_path / "copies").iterdir())
    assert kept == [".5.77.partial", "2", "3", "4", "5"]


def test_no_champion_and_no_answer_are_told_apart(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    champion = looking(tmp_path)
    assert champion.look() == Look(None, "toy: has no champion yet: bertline run toy")
    registry.away = True
    assert champion.look() == Look(None, "MLflow does not answer")


def test_a_misspelt_recipe_is_told(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("recipes: {toys: {}}\n")
    assert "no recipe 'toy'" in looking(tmp_path).look().problem


def test_looks_go_on_until_they_are_stopped(registry: Registry, tmp_path: Path) -> None:
    enough = threading.Event()
    looks: list[Look] = []

    def tell(look: Look) -> None:
        looks.append(look)
        if len(looks) == 3:
            enough.set()

    registry.add(tmp_path / "1", "1")
    champion = Champion("toy", "sqlite://", tmp_path / "copies", 0.01, tell, set)
    champion.start()
    assert enough.wait(10)
    champion.stopped.set()
    champion.join(10)
    assert not champion.is_alive()


# as a process, with a fake worker

WORKER = """
import json, os, socket, sys
given = json.loads(sys.argv[1])
with open("workers", "a") as file:
    print(os.getpid(), file=file, flush=True)
channel = socket.socket(fileno=given["channel"]).makefile("rw")
serve = given["serve"]
while True:
    if serve:
        if serve["number"] == "deadly" or len(open("workers").readlines()) <= ENDS:
            os._exit(1)
        print(json.dumps({"serving": serve["number"], "tuning": None}), file=channel, flush=True)
    line = channel.readline()
    if not line:
        break
    message = json.loads(line)
    serve = message.get("serve")
    if "beat" in message and len(open("workers").readlines()) > HANG:
        print(line, end="", file=channel, flush=True)
"""


def pretending(service: ServerOptions, ends: int = 0, hang: int = 0) -> ServerOptions:
    """Options with a fake worker: the first `ends` exit, the first `hang` do not answer."""
    script = WORKER.replace("ENDS", str(ends)).replace("HANG", str(hang))
    command = (sys.executable, "-S", "-c", script)
    return replace(service, port=0, every=0.02, worker=command)


def workers_gone(tmp_path: Path) -> int:
    """Count the workers that were started; none may still run."""
    numbers = [int(line) for line in (tmp_path / "workers").read_text().splitlines()]
    assert not any(psutil.pid_exists(number) for number in numbers)
    return len(numbers)


def ended_by(number: signal.Signals, ready: Callable[[], bool]) -> threading.Thread:
    """Send this process a signal once `ready` returns True."""

    def send() -> None:
        end = time.monotonic() + 20
        while not ready() and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.fixture
def worked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: ServerOptions, registry: Registry
) -> ServerOptions:
    monkeypatch.chdir(tmp_path)
    return service


def test_without_a_champion_its_worker_is_ended_and_the_reason_told(
    worked_in: ServerOptions, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"^toy: has no champion yet: bertline run toy$"):
        serve(pretending(worked_in))
    assert workers_gone(tmp_path) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_its_worker(
    worked_in: ServerOptions, registry: Registry, tmp_path: Path, number: signal.Signals
) -> None:
    registry.add(tmp_path / "1", "1")
    sender = ended_by(number, worked_in.state.exists)
    serve(pretending(worked_in))
    sender.join()
    assert workers_gone(tmp_path) == 1


def test_a_port_that_a_killed_service_still_holds_is_waited_for(
    worked_in: ServerOptions, registry: Registry, tmp_path: Path
) -> None:
    registry.add(tmp_path / "1", "1")
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    timer = threading.Timer(0.2, taken.close)
    timer.start()
    sender = ended_by(signal.SIGTERM, worked_in.state.exists)
    serve(replace(pretending(worked_in), port=port))
    for thread in (timer, sender):
        thread.join()
    assert workers_gone(tmp_path) == 1


def test_a_worker_that_ends_is_started_again(
    worked_in: ServerOptions, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.add(tmp_path / "1", "1")
    sender = ended_by(signal.SIGTERM, worked_in.state.exists)
    serve(pretending(worked_in, ends=2))
    sender.join()
    assert workers_gone(tmp_path) == 3
    told = capsys.readouterr()
    assert "serves toy/1" in told.out
    assert told.err.count("worker ended") == 2


def test_a_worker_that_hangs_is_ended_and_started_again(
    worked_in: ServerOptions,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(supervisor, "BEAT", 0.05)
    monkeypatch.setattr(supervisor, "STARTS", 45)
    registry.add(tmp_path / "1", "1")
    beats = 0

    class Counted(Supervisor):
        def _receive(self, message: dict[str, Any]) -> None:
            nonlocal beats
            beats += "beat" in message
            super()._receive(message)

    monkeypatch.setattr(supervisor, "Supervisor", Counted)
    sender = ended_by(signal.SIGTERM, lambda: beats > 2 * supervisor.MISSED)
    serve(pretending(worked_in, hang=1))
    sender.join()
    assert workers_gone(tmp_path) == 2  # the one that hung, and one that was left alone
    told = capsys.readouterr().err
    assert (told.count("worker hangs"), told.count("worker ended")) == (1, 1)


def test_a_first_version_that_ends_every_worker_is_told(
    worked_in: ServerOptions, registry: Registry, tmp_path: Path
) -> None:
    registry.add(tmp_path / "deadly", "deadly")
    with pytest.raises(
        UserError, match=r"^toy/deadly is not served: the worker exits while loading"
    ):
        serve(pretending(worked_in))
    assert workers_gone(tmp_path) == TRIES
