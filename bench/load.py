"""What locust does in a benchmark of serving: bodies are posted, and every answer's time is kept.

    locust -f bench/load.py --headless --bodies bodies.json --out told.json --users 32 \
        --spawn-rate 100 --run-time 10s --host http://127.0.0.1:8000

Every user has one connection, which it keeps. Without `--rate` a user asks again as soon as it is
answered; with it all users together send so many requests a second at moments of chance (a Poisson
process), whether answered soon or not, as long as there are users who wait for no answer. Locust
rounds the times of its own tables to two digits, so each request is written to `--out`: when it was
sent (seconds of time.time), how long it took (ms), and the status, 0 where the connection failed.
"""

import json
import random
import resource
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

HEADERS = {"Content-Type": "application/json"}
seen: list[tuple[float, float, int]] = []
bodies: list[bytes] = []


@events.init_command_line_parser.add_listener
def add_arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--bodies", help="a JSON list of texts, each the body of a request")
    parser.add_argument("--out", help="file of the times")
    parser.add_argument("--rate", type=float, default=0.0, help="requests per second of all users")
    parser.add_argument("--path", default="/invocations")


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    options: Any = environment.parsed_options
    told = json.loads(Path(options.bodies).read_text(encoding="utf-8"))
    bodies.extend(body.encode() for body in told)
    if options.rate:
        Client.wait_time = by_chance


@events.request.add_listener
def keep(response: Any, start_time: float, response_time: float, **_: Any) -> None:
    seen.append(
        (round(start_time, 4), round(response_time, 3), getattr(response, "status_code", 0))
    )


@events.quitting.add_listener
def write(environment: Environment, **_: Any) -> None:
    own = resource.getrusage(resource.RUSAGE_SELF)
    content = {"cpu": own.ru_utime + own.ru_stime, "requests": seen}
    options: Any = environment.parsed_options
    Path(options.out).write_text(json.dumps(content))
    environment.process_exit_code = 0  # what was refused is a result, not a failure


def by_chance(client: "Client") -> float:
    """Seconds until a client's next moment; none where that has passed."""
    options = client.environment.parsed_options
    client.due += random.expovariate(options.rate / options.num_users)
    return max(0.0, client.due - time.monotonic())


class Client(FastHttpUser):
    """One connection that sends one body after the other, from a place of its own in the list."""

    wait_time: Any = constant(0)
    concurrency = 1
    network_timeout = 120.0

    def on_start(self) -> None:
        first = random.randrange(len(bodies))
        self.own = cycle([*bodies[first:], *bodies[:first]])
        self.due = time.monotonic()
        if self.environment.parsed_options.rate:
            gevent.sleep(by_chance(self))

    @task
    def ask(self) -> None:
        path = self.environment.parsed_options.path
        self.client.post(path, data=next(self.own), headers=HEADERS)  # type: ignore[arg-type]
