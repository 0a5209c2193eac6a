"""Shared setup of the serving proofs: quickly made versions, a server, and its clients."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline import tasks
from pipeline.registry.publisher import Publisher, Run
from pipeline.registry.versions import Registry
from tests.conftest import FILLER, ROOT, WORDS

CLASSES = sorted(WORDS)
VOCABULARY = [word for group in WORDS.values() for word in group] + FILLER
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WIDTH = 32
CLOSE = 1e-5  # by which fp32 scores differ with a text's neighbours in a batch


# versions


def write_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = {word: place for place, word in enumerate([*SPECIAL, *VOCABULARY])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(path))


def write_model(path: Path, seed: int, layers: int = 1, *, sound: bool = True) -> None:
    """A bag of words: what it answers depends on the seed alone, what it costs on the layers.

    One that is not sound answers with what is no number.
    """
    from onnx import TensorProto, checker, helper, numpy_helper, save

    draw = np.random.default_rng(seed)

    def weights(*shape: int) -> Any:
        return draw.normal(0, shape[-2] ** -0.5, shape).astype(np.float32)

    stored = {
        "words": weights(len(SPECIAL) + len(VOCABULARY), WIDTH) * 6,
        "head": weights(WIDTH, len(CLASSES)) / 4,
        "last": np.array([2], np.int64),
        "middle": np.array([1], np.int64),
    }
    nodes = [helper.make_node("Gather", ["words", "input_ids"], ["x0"])]
    wide = WIDTH * layers
    for name, shape in (("up", (WIDTH, wide)), ("through", (wide, wide)), ("down", (wide, WIDTH))):
        stored[name] = weights(*shape)
    for number, name in enumerate(("up", "through", "down")):
        nodes.append(helper.make_node("MatMul", [f"x{number}", name], [f"m{number}"]))
        nodes.append(helper.make_node("Tanh", [f"m{number}"], [f"x{number + 1}"]))
    nodes += [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["x3", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["sum", "head"], ["logits"]),
    ]
    if not sound:
        stored["head"][:] = np.nan
    of = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(CLASSES)])
    initial = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "bag", of, [out], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, str(path))


def register(
    registry: Registry, folder: Path, seed: int, layers: int = 1, *, sound: bool = True
) -> str:
    """The number of a new version of `toy`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / "model.onnx", seed, layers, sound=sound)
    write_tokenizer(folder / "tokenizer.json")
    serving = {
        "task": "classification",
        "classes": CLASSES,
        "decision": {},
        "max_length": 32,
        "long_text": "truncate",
        "overlap": 0,
        "masking": None,
        "padding": 0,
    }
    (folder / "serving.json").write_text(json.dumps(serving))
    run = Run(
        recipe="toy",
        lineage=f"{seed:08}",
        key=f"key-{seed}",
        fit=f"fit-{seed}",
        params={},
        metrics={},
        curves=[],
        datasets=[],
        artifacts=[],
        card="---\n---\n# A toy.",
        model={
            "model": folder / "model.onnx",
            "tokenizer": folder / "tokenizer.json",
            "settings": folder / "serving.json",
        },
        task=tasks.get("classification"),
        tags={},
        shown={},
        digests={},
        source="a proof",
    )
    return Publisher(registry).publish(run).version


def make_texts(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(VOCABULARY, k=draw.randint(1, 24))) for _ in range(count)]


# a server


class Service:
    """`bertline serve toy`, in a folder of its own; `with` starts and ends it."""

    def __init__(
        self, folder: Path, tracking: str, *arguments: str, python: str = sys.executable
    ) -> None:
        self.folder, self.tracking, self.arguments, self.python = (
            folder,
            tracking,
            arguments,
            python,
        )
        self.port = free_port()
        self.name, self.url = "bertline serve", f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        own = {"MLFLOW_TRACKING_URI": self.tracking, "PYTHONPATH": str(ROOT)}
        command = [self.python, "-m", "flows.cli", "serve", "toy", "--port", str(self.port)]
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.arguments],
                cwd=self.folder,
                env=os.environ | own | self.environment,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> "Service":
        self.start()
        with ExitStack() as where_it_fails:
            where_it_fails.callback(self.kill)
            wait_for(lambda: self.is_ready() or self.has_ended(), 60, lambda: self.log()[-3000:])
            assert not self.has_ended(), self.log()[-3000:]
            where_it_fails.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        finally:
            self.kill()

    def kill(self) -> None:
        """All of it, without a word."""
        if self.process is None:
            return
        for process in [*self.family(), self.process]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(timeout=20)

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def family(self) -> list[psutil.Process]:
        """The processes under it."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True) if self.process else []
        except psutil.NoSuchProcess:
            return []

    def worker(self) -> psutil.Process:
        """The one that answers."""
        for process in self.family():
            try:
                if any("pipeline.serving.worker" in word for word in process.cmdline()):
                    return process
            except psutil.NoSuchProcess:
                continue
        raise AssertionError(f"no worker:\n{self.log()[-3000:]}")

    def memory(self) -> int:
        """Resident bytes of the one that answers."""
        return int(self.worker().memory_info().rss)

    def log(self) -> str:
        """Log of the server without the lines of requests."""
        lines = (self.folder / "log.txt").read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if '"method":' not in line)

    def ask(
        self, path: str, content: Any = None, method: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """A status, and JSON. Status 0: nobody answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        body = None if content is None else json.dumps(content).encode()
        given = {"Content-Type": "application/json"} | headers if body else headers
        try:
            connection.request(method or ("POST" if body else "GET"), path, body, given)
            answer = connection.getresponse()
            raw = answer.read()
        except OSError:
            return 0, None
        finally:
            connection.close()
        return answer.status, json.loads(raw)

    def is_ready(self) -> bool:
        return self.ask("/readyz")[0] == 200

    def state(self) -> dict[str, Any]:
        """Response of /readyz."""
        return dict(self.ask("/readyz")[1] or {})

    def serves(self, number: str) -> bool:
        """True if requests are answered by this version."""
        status, told = self.ask("/predict", {"text": "a goal"})
        return status == 200 and told["version"] == f"toy/{number}"


class MlflowServer:
    """A server of MLflow's over a SQLite file, which comes and goes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "mlflow.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self.answers, 90)

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


# clients


@dataclass(frozen=True)
class Told:
    """Response that a client received."""

    when: float
    """time.monotonic() when it asked."""
    seconds: float
    status: int
    """0 where the connection broke."""
    texts: tuple[str, ...]
    content: Any


class Crowd:
    """Clients that ask all the time, single texts and batches, each on a connection that it keeps;
    in threads, from `with` until its end."""

    def __init__(self, service: Service, texts: list[str], clients: int = 8, pause: float = 0.02):
        self.service, self.texts, self.pause = service, texts, pause
        self.told: list[Told] = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(clients)]

    def __enter__(self) -> "Crowd":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join(timeout=60)

    def failed(self) -> list[Told]:
        return [told for told in self.told if told.status != 200]

    def statuses(self) -> Counter[int]:
        return Counter(told.status for told in self.told)

    def _ask(self, number: int) -> None:
        draw = random.Random(number)
        connection = self._connect()
        while not self.ended.is_set():
            texts = tuple(draw.choices(self.texts, k=draw.choice((1, 1, 1, 5, 40))))
            path, content = "/predict", {"text": texts[0]}
            if len(texts) > 1:
                path, content = "/predict/batch", {"rows": [{"text": text} for text in texts]}
            begun = time.monotonic()
            try:
                connection.request(
                    "POST", path, json.dumps(content), {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                status, told = answer.status, json.loads(answer.read())
            except (OSError, http.client.HTTPException):
                connection.close()
                connection, status, told = self._connect(), 0, None
            self.told.append(Told(begun, time.monotonic() - begun, status, texts, told))
            self.ended.wait(draw.random() * 2 * self.pause)
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)


Scores = dict[str, dict[str, float]]


def scores_of(registry: Registry, number: str, texts: list[str]) -> Scores:
    """Answers of a version, loaded by MLflow, to each text."""
    answers = registry.scores("toy", number, [(text, "") for text in texts])
    return {
        text: {name: answer[f"score_{name}"] for name in CLASSES}
        for text, answer in zip(texts, answers, strict=True)
    }


def is_of(told: Told, expected: Scores) -> bool:
    """True if every row of an answer is one version's."""
    answers = told.content["answers"] if len(told.texts) > 1 else [told.content]
    return len(answers) == len(told.texts) and all(
        abs(answer["scores"][name] - expected[text][name]) <= CLOSE
        for text, answer in zip(told.texts, answers, strict=True)
        for name in CLASSES
    )


def wait_for(
    true: Callable[[], bool], seconds: float, why: Callable[[], object] = lambda: ""
) -> float:
    """Seconds until something was so. Fails where it takes longer than `seconds`."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s: {why()}"
        time.sleep(0.02)
    return time.monotonic() - begun


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
