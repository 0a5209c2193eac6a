"""Messages of the supervisor to a worker, its reaction to failures, and its start."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.core.files import write_json
from pipeline.serving.settings import KEYS, api_keys
from pipeline.serving.spec import Look, Spec, as_json
from pipeline.serving.supervisor import TRIES, ServerOptions, Supervisor, serve

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
