"""Notifications about the outcome of a retraining: Slack, e-mail or a webhook.

The addresses come from the environment alone and are read at the moment of sending:

    BERTLINE_SLACK_WEBHOOK   address of a Slack webhook, or of one that takes the same JSON
    BERTLINE_WEBHOOK         any address that takes JSON
    BERTLINE_SMTP            smtp://USER:PASSWORD@HOST:PORT, or smtps:// for TLS from the start
    BERTLINE_EMAIL_FROM      an address
    BERTLINE_EMAIL_TO        one or more addresses, separated by commas

A password is sent only over an encrypted connection (STARTTLS or TLS). The addresses are secrets,
so they reach neither Prefect's database (the blocks are made in memory) nor a log: the text of an
error is not repeated, and the log levels of libraries that print addresses are raised.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from html import escape
from threading import Thread
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from pipeline.core.errors import UserError
from pipeline.core.log import Log, no_log
from pipeline.core.text import excerpt
from pipeline.metrics import names
from pipeline.registry.records import Verdict

Outcome = Literal["promoted", "held", "rejected", "awaiting a person", "not retrained", "failed"]
Send = Callable[[], object]

VARIABLES = {
    "slack": ("BERTLINE_SLACK_WEBHOOK",),
    "webhook": ("BERTLINE_WEBHOOK",),
    "email": ("BERTLINE_SMTP", "BERTLINE_EMAIL_FROM", "BERTLINE_EMAIL_TO"),
}
WEB = re.compile(r"https?://[^\s/]+(/\S*)?")
FORMS = {
    "BERTLINE_SLACK_WEBHOOK": (WEB, "https://hooks.slack.com/services/..."),
    "BERTLINE_WEBHOOK": (WEB, "https://HOST/PATH"),
    "BERTLINE_SMTP": (
        re.compile(r"smtps?://([^\s/@:]+:[^\s/@:]+@)?[^\s/@:]+(:\d{1,5})?/?"),
        "smtp://USER:PASSWORD@HOST:PORT, user and password percent-encoded",
    ),
    "BERTLINE_EMAIL_FROM": (re.compile(r"[^\s@,]+@[^\s@,]+"), "NAME@HOST"),
    "BERTLINE_EMAIL_TO": (
        re.compile(r"[^\s@,]+@[^\s@,]+(, *[^\s@,]+@[^\s@,]+)*"),
        "NAME@HOST, or several separated by commas",
    ),
}
TIMEOUT = 10.0  # seconds for one try
TRIES = 2
PAUSE = 2.0  # seconds between them
QUIET = {"apprise": logging.CRITICAL, "httpx": logging.WARNING, "httpcore": logging.WARNING}


@dataclass(frozen=True)
class Message:
    title: str
    body: str
    """Plain text, one fact per line."""
    fields: dict[str, Any]
    """Content of the webhook's JSON."""


def message(
    recipe: str,
    outcome: Outcome,
    reason: str,
    verdict: Verdict | None = None,
    *,
    run: str | None = None,
    report: str | None = None,
    flow_run: str | None = None,
) -> Message:
    """Compose a message. `run`, `report` and `flow_run` are the addresses of the run in MLflow, of
    its report and of the run in Prefect."""
    name = f"{verdict.model}/{verdict.version}" if verdict else recipe
    title = f"{name}: {outcome}"
    reason = excerpt(reason, 400)
    links = {"run": run, "report": report, "flow_run": flow_run}
    lines = [reason, *(_scores(verdict) if verdict else ())]
    lines += [f"{label.replace('_', ' ')}: {link}" for label, link in links.items() if link]
    fields = {
        "recipe": recipe,
        "outcome": outcome,
        "reason": reason,
        "version": verdict and verdict.version,
        "champion": verdict and verdict.champion,
        "rows": verdict and verdict.rows,
        "scores": verdict.scores if verdict else {},
        "differences": {
            each.metric: each.difference.model_dump()
            for each in (verdict.comparisons if verdict else ())
        },
        "links": links,
        "title": title,
    }
    return Message(title, "\n".join(lines), fields)


def check(channels: Sequence[str]) -> None:
    """Raise UserError for the first address that is missing or malformed; its text is not shown."""
    for channel in channels:
        for name in VARIABLES[channel]:
            form, shown = FORMS[name]
            address = os.environ.get(name, "")
            if not form.fullmatch(address):
                what = "is malformed" if address else "is not set"
                raise UserError(f"{name} {what}: retrain.notify names {channel}: set it to {shown}")


def notify(channels: Sequence[str], message: Message, log: Log = no_log) -> list[str]:
    """Send a message to every channel and return those that took it; failures are only logged."""
    for name, level in QUIET.items():
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, level))
    sent = []
    for channel in channels:
        if problem := _send(channel, message):
            log.info(f"{channel} was not told: {problem}")
        else:
            sent.append(channel)
    return sent


def _send(channel: str, message: Message) -> str:
    """Send a message. Returns the error of the last try, or an empty string."""
    try:
        check([channel])
    except UserError as error:
        return str(error)
    problem = ""
    for turn in range(TRIES):
        if turn:
            time.sleep(PAUSE)
        try:
            _within(TIMEOUT, SENDERS[channel](message))
        except TimeoutError:
            problem = f"no answer within {TIMEOUT:g} seconds"
        except Exception as error:  # its text may hold the address
            response = getattr(error, "response", None)
            what = type(error).__name__ if response is None else response.status_code
            problem = f"the message was refused ({what})"
        else:
            return ""
    return f"{problem}: look at {', '.join(VARIABLES[channel])}"


def _within(seconds: float, send: Send) -> None:
    """Call `send` in a thread. Raises TimeoutError if it takes longer than `seconds`.

    The timeouts of the libraries restart with every byte. In a thread without an event loop the
    blocks send at once; in the caller's loop they would return a coroutine.
    """
    done: Future[None] = Future()

    def go() -> None:
        try:
            send()
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    Thread(target=go, daemon=True).start()
    done.result(seconds)


def _slack(message: Message) -> Send:
    # not SlackWebhook: it turns "!channel>" in a text into a mention of everyone, and takes no
    # addresses but Slack's
    text = escape(f"{message.title}\n{message.body}", quote=False)
    return _post("BERTLINE_SLACK_WEBHOOK", {"text": text})


def _webhook(message: Message) -> Send:
    return _post("BERTLINE_WEBHOOK", message.fields)


def _post(variable: str, fields: dict[str, Any]) -> Send:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    # The block fills in templates. Values of its secrets are not read as templates, and the address
    # is not shown. A private address is allowed: it comes from the operator, not from rows.
    block = CustomWebhookNotificationBlock(
        name="bertline",
        url="{{address}}",
        json_data={name: f"{{{{{name}}}}}" for name in fields},
        secrets={**fields, "address": os.environ[variable]},
        timeout=TIMEOUT,
        allow_private_urls=True,
    )
    return lambda: block.notify("")


def _email(message: Message) -> Send:
    from prefect.blocks.notifications import AppriseNotificationBlock

    server = urlsplit(os.environ["BERTLINE_SMTP"])
    plain = "starttls" if server.password else "insecure"
    query = {
        "smtp": str(server.hostname),  # else Apprise looks it up in a table of providers
        "mode": "ssl" if server.scheme == "smtps" else plain,
        "from": f"bertline <{os.environ['BERTLINE_EMAIL_FROM']}>",
        "to": os.environ["BERTLINE_EMAIL_TO"].replace(" ", ""),
        "format": "text",
    }
    options = "&".join(f"{name}={quote(value, safe=',')}" for name, value in query.items())
    block = AppriseNotificationBlock(url=f"mailto://{server.netloc}/?{options}")

    def send() -> None:
        with block.raise_on_failure():
            block.notify(message.body, message.title)

    return send


SENDERS: dict[str, Callable[[Message], Send]] = {
    "slack": _slack,
    "webhook": _webhook,
    "email": _email,
}


def _scores(verdict: Verdict) -> list[str]:
    scores = [f"{names.metric(name)} {value:.4f}" for name, value in verdict.scores.items()]
    lines = [f"test {', '.join(scores)} on {verdict.rows:,} rows"] if scores else []
    for each in verdict.comparisons:
        gap = each.difference
        lines.append(
            f"{names.metric(each.metric)} against {verdict.model}/{verdict.champion}:"
            f" {gap.value:+.2%}, 95 % interval {gap.low:+.2%} to {gap.high:+.2%}"
        )
    return lines
