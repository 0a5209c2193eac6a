"""The champion answers without a gap: through swaps, broken versions, kills and overload."""

import json
import sys
import time
from itertools import combinations
from pathlib import Path

import pytest

from pipeline.promotion import champion as promotion
from pipeline.registry.versions import Registry
from pipeline.serving.supervisor import BEAT, MISSED
from tests.conftest import ROOT
from tests.prove.serving import (
    CLOSE,
    Crowd,
    MlflowServer,
    Service,
    is_of,
    make_texts,
    register,
    scores_of,
    wait_for,
)

sys.path.insert(0, str(ROOT / "bench"))
import serving as bench

pytestmark = pytest.mark.prove
SWAPS = 10
FOLLOWED = 15  # seconds within which a new champion answers
MOMENT = 0.1  # seconds in which a process that was killed may still take connections
STORM = 60  # seconds of the overload
TEXTS = make_texts(200)


def tracking_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of eleven sound versions, each with answers of its own, and a twelfth that answers
    with what is no number."""
    folder = tmp_path_factory.mktemp("registry")
    registry = Registry(tracking_of(folder))
    for number in range(1, SWAPS + 2):
        assert register(registry, folder / f"v{number}", number) == str(number)
    assert register(registry, folder / "broken", 99, sound=False) == str(SWAPS + 2)
    return folder


@pytest.fixture
def registry(home: Path) -> Registry:
    registry = Registry(tracking_of(home))
    registry.move("toy", "1")
    promotion.champion_of(registry, "toy")  # which writes down what a hand has moved
    return registry


@pytest.fixture
def service(registry: Registry, tmp_path: Path) -> Service:
    return Service(tmp_path / "serving", registry.tracking)


def test_ten_swaps_and_a_broken_version_lose_nothing_and_mix_nothing(
    registry: Registry, service: Service
) -> None:
    numbers = [str(number) for number in range(1, SWAPS + 2)]
    expected = {f"toy/{number}": scores_of(registry, number, TEXTS) for number in numbers}
    for text in TEXTS:  # an answer tells whose it is
        for one, other in combinations([scores[text] for scores in expected.values()], 2):
            assert max(abs(one[name] - other[name]) for name in one) > 3 * CLOSE
    broken = str(SWAPS + 2)
    with service, Crowd(service, TEXTS) as crowd:
        for number in numbers[1:]:
            registry.move("toy", number)
            promotion.champion_of(registry, "toy")
            wait_for(lambda n=number: service.serves(n), FOLLOWED, service.log)  # type: ignore[misc]
        registry.move("toy", broken)
        promotion.champion_of(registry, "toy")
        wait_for(lambda: f"toy/{broken}" in json.dumps(service.state()), FOLLOWED, service.log)
        assert service.is_ready()
        assert service.serves(numbers[-1])
        promotion.rollback(registry, "toy")  # from the broken one
        promotion.rollback(registry, "toy")
        took = wait_for(lambda: service.serves(numbers[-2]), 5, service.log)
        time.sleep(1)
        worker = service.worker().pid
    assert worker
    print(f"{len(crowd.told)} requests, {crowd.statuses()}; rollback in use after {took:.1f} s")
    assert len(crowd.told) > 500
    assert not crowd.failed(), crowd.failed()[:3]
    for told in crowd.told:
        assert is_of(told, expected[told.content["version"]]), told
    answered = {told.content["version"] for told in crowd.told}
    assert answered == {f"toy/{number}" for number in numbers}


def test_a_worker_that_is_killed_under_load_is_back_in_three_seconds(
    service: Service,
) -> None:
    with service, Crowd(service, TEXTS) as crowd:
        time.sleep(2)
        for _ in range(3):
            worker = service.worker()
            worker.kill()
            killed = time.monotonic()
            worker.wait(timeout=5)
            took = wait_for(service.is_ready, 3, service.log)
            print(f"ready again after {took:.2f} s")
            time.sleep(2)
            # whoever was being answered in that moment is let down, and nobody afterwards
            let_down = [told for told in crowd.failed() if told.when + told.seconds >= killed]
            assert all(told.status == 0 and told.when < killed + MOMENT for told in let_down)
            assert any(told.status == 200 and told.when > killed + took for told in crowd.told)


def test_a_worker_that_hangs_under_load_is_ended_and_another_answers(
    service: Service,
) -> None:
    with service, Crowd(service, TEXTS):
        time.sleep(2)
        worker = service.worker()
        worker.suspend()
        worker.wait(timeout=MISSED * BEAT + 5)
        took = wait_for(service.is_ready, 3, service.log)
        print(f"ready {took:.2f} s after it was ended")
        assert "worker hangs" in service.log()
        time.sleep(2)
        assert service.serves("1")


def test_a_service_that_is_killed_whole_under_load_is_back_in_three_seconds(
    service: Service,
) -> None:
    with service, Crowd(service, TEXTS):
        time.sleep(2)
        before = service.state()["version"]
        service.kill()
        assert service.ask("/readyz")[0] == 0
        service.start()
        took = wait_for(service.is_ready, 3, service.log)
        print(f"ready again after {took:.2f} s")
        assert service.state()["version"] == before
        assert service.serves("1")


def test_nothing_is_left_behind_by_a_parent_that_is_killed(service: Service) -> None:
    with service:
        worker = service.worker()
        assert service.process is not None
        service.process.kill()
        service.process.wait()
        worker.wait(timeout=5)


def test_an_mlflow_that_is_away_changes_nothing(tmp_path: Path) -> None:
    server = MlflowServer(tmp_path)
    server.start()
    try:
        registry = Registry(server.url)
        registry.move("toy", register(registry, tmp_path / "v1", 1))
        second = register(registry, tmp_path / "v2", 2)
        with (
            Service(tmp_path / "serving", server.url) as service,
            Crowd(service, TEXTS) as crowd,
        ):
            server.stop()
            time.sleep(6)
            assert service.is_ready()
            assert service.serves("1")
            assert not crowd.failed()
            service.kill()
            service.start()  # from what it kept
            took = wait_for(service.is_ready, 5, service.log)
            restarted = time.monotonic()
            print(f"ready again without MLflow after {took:.2f} s")
            assert service.serves("1")
            time.sleep(2)
            server.start()
            registry.move("toy", second)
            wait_for(lambda: service.serves(second), 60, service.log)
        assert not [told for told in crowd.failed() if told.when > restarted]
    finally:
        server.stop()


def test_one_changed_byte_in_any_file_of_a_version_keeps_it_from_being_served(
    registry: Registry, service: Service
) -> None:
    folder = registry.folder("toy", "2")
    files = sorted(registry.files("toy", "2") or {})
    assert {"MLmodel", "artifacts/model.onnx", "artifacts/tasks/base/answering.py"} <= {*files}
    with service:
        for name in files:
            file = folder / name
            content = file.read_bytes()
            change(file, content)
            try:
                registry.move("toy", "2")
                wait_for(lambda n=name: n in json.dumps(service.state()), FOLLOWED, service.log)  # type: ignore[misc]
                assert service.serves("1"), name
                registry.move("toy", "1")
                wait_for(lambda n=name: n not in json.dumps(service.state()), FOLLOWED, service.log)  # type: ignore[misc]
            finally:
                file.write_bytes(content)
        registry.move("toy", "2")
        wait_for(lambda: service.serves("2"), FOLLOWED, service.log)


def test_a_service_does_not_start_with_a_changed_champion(
    registry: Registry, service: Service
) -> None:
    file = registry.folder("toy", "1") / "artifacts" / "model.onnx"
    content = file.read_bytes()
    change(file, content)
    try:
        service.start()
        wait_for(lambda: "artifacts/model.onnx of toy/1 has changed" in service.log(), 30)
        assert not service.is_ready()
        assert "Traceback" not in service.log()
    finally:
        file.write_bytes(content)
        service.kill()


def change(file: Path, content: bytes) -> None:
    """One byte in the middle."""
    middle = len(content) // 2
    file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def test_an_overload_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    registry = Registry(tracking_of(tmp_path))
    registry.move("toy", register(registry, tmp_path / "slow", 1, layers=256))
    bodies = [json.dumps({"inputs": [text]}) for text in TEXTS]
    tool = bench.Tool(tmp_path, bodies)
    with Service(tmp_path / "serving", registry.tracking) as service:
        loads = bench.sweep(tool, service, 5, 50.0)
        peak = max(loads, key=lambda load: load.answered)
        told = bench.overload(tool, service, peak.answered, STORM)
        print(f"saturation {peak}; overload {told}")
        assert service.is_ready()
    assert told["sent"] > 3 * peak.answered, "the tool is too slow"
    during = told["during"]
    assert told["before"]["refused"] == told["before"]["failed"] == during["failed"] == 0
    assert during["refused"] > 0.5
    assert during["answered"] > 0.7 * peak.answered
    assert during["p99"] < 2 * peak.p99
    assert told["seconds_until_calm"] <= 2
