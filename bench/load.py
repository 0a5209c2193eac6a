"""Locust file of the serving benchmark: posts bodies and records the time of every response.

    locust -f bench/load.py --headless --bodies bodies.json --out times.json --users 32 \
        --spawn-rate 100 --run-time 10s --host http://127.0.0.1:8000

Every user keeps one connection. Without `--rate` a user sends its next request when it gets the
response. With it, all users together send that many requests per second as a Poisson process,
however long responses take, as long as a user is free. Locust rounds the times of its own tables to
two digits, so each request is written to `--out`: when it was sent (seconds of time.time), how long
it took (ms), and the status, 0 if the connection failed.
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
requests: list[tuple[float, float, int]] = []
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
    texts = json.loads(Path(options.bodies).read_text(encoding="utf-8"))
    bodies.extend(text.encode() for text in texts)
    if options.rate:
        Client.wait_time = poisson_wait


@events.request.add_listener
def record(response: Any, start_time: float, response_time: float, **_: Any) -> None:
    status = getattr(response, "status_code", 0)
    requests.append((round(start_time, 4), round(response_time, 3), status))


@events.quitting.add_listener
def write(environment: Environment, **_: Any) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    content = {"cpu": usage.ru_utime + usage.ru_stime, "requests": requests}
    options: Any = environment.parsed_options
    Path(options.out).write_text(json.dumps(content))
    environment.process_exit_code = 0  # a refused request is a result, not a failure


def poisson_wait(client: "Client") -> float:
    """Return the seconds until a client's next request is due, 0 if it is overdue."""
    options = client.environment.parsed_options
    client.due += random.expovariate(options.rate / options.num_users)
    return max(0.0, client.due - time.monotonic())


class Client(FastHttpUser):
    """Connection that sends the bodies in order, from a random position in the list."""

    wait_time: Any = constant(0)
    concurrency = 1
    network_timeout = 120.0

    def on_start(self) -> None:
        first = random.randrange(len(bodies))
        self.own = cycle([*bodies[first:], *bodies[:first]])
        self.due = time.monotonic()
        if self.environment.parsed_options.rate:
            gevent.sleep(poisson_wait(self))

    @task
    def ask(self) -> None:
        path = self.environment.parsed_options.path
        self.client.post(path, data=next(self.own), headers=HEADERS)  # type: ignore[arg-type]
