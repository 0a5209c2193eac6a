"""What a nightly run came to, told to people: by Slack, e-mail or a webhook of theirs.

Where to is read from the environment alone, at the moment of sending:

    BERTLINE_SLACK_WEBHOOK   address of a Slack webhook, or of one that takes the same JSON
    BERTLINE_WEBHOOK         any address that takes JSON
    BERTLINE_SMTP            smtp://USER:PASSWORD@HOST:PORT; smtps:// where all of it is encrypted
    BERTLINE_EMAIL_FROM      an address
    BERTLINE_EMAIL_TO        one or more, with commas between

A password goes over a connection that STARTTLS has encrypted, or not at all. The blocks are made in
memory: Prefect's database sees no address. Nor does a log, for these addresses are secrets: an
error's own text is not repeated, and libraries that print addresses are told not to.
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

Outcome = Literal[
    "promoted", "held", "rejected", "awaiting a person", "not retrained", "failed"
]  # of a nightly run
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
        "smtp://USER:PASSWORD@HOST:PORT, both quoted as in any address",
    ),
    "BERTLINE_EMAIL_FROM": (re.compile(r"[^\s@,]+@[^\s@,]+"), "NAME@HOST"),
    "BERTLINE_EMAIL_TO": (
        re.compile(r"[^\s@,]+@[^\s@,]+(, *[^\s@,]+@[^\s@,]+)*"),
        "NAME@HOST, or several with commas between",
    ),
}
PATIENCE = 10.0  # seconds for one try
TRIES = 2
PAUSE = 2.0  # seconds between them
QUIET = {"apprise": logging.CRITICAL, "httpx": logging.WARNING, "httpcore": logging.WARNING}


@dataclass(frozen=True)
class Message:
    title: str
    body: str
    """Plain text, a fact a line."""
    fields: dict[str, Any]
    """The same as JSON."""


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
    """What there is to tell; `run`, `report` and `flow_run` are addresses: of the run in MLflow, of
    its report, of the run in Prefect."""
    name = f"{verdict.model}/{verdict.version}" if verdict else recipe
    title = f"{name}: {outcome}"
    why = excerpt(reason, 400)
    links = {"run": run, "report": report, "flow_run": flow_run}
    lines = [why, *(_scores(verdict) if verdict else ())]
    lines += [f"{label.replace('_', ' ')}: {link}" for label, link in links.items() if link]
    fields = {
        "recipe": recipe,
        "outcome": outcome,
        "reason": why,
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
    """Raises UserError for the first address that is missing or none; it is not repeated."""
    for channel in channels:
        for name in VARIABLES[channel]:
            form, shown = FORMS[name]
            address = os.environ.get(name, "")
            if not form.fullmatch(address):
                what = "is no such address" if address else "is not set"
                raise UserError(f"{name} {what}: retrain.notify names {channel}: set it to {shown}")


def notify(channels: Sequence[str], message: Message, log: Log = no_log) -> list[str]:
    """Tell everyone, and return who was told. Raises nothing: who was not is a line in the log."""
    for name, level in QUIET.items():
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, level))
    told = []
    for channel in channels:
        if problem := _tell(channel, message):
            log.say(f"{channel} was not told: {problem}")
        else:
            told.append(channel)
    return told


def _tell(channel: str, message: Message) -> str:
    """What went wrong, the last time; nothing where it went well."""
    try:
        check([channel])
    except UserError as error:
        return str(error)
    problem = ""
    for turn in range(TRIES):
        if turn:
            time.sleep(PAUSE)
        try:
            _within(PATIENCE, SENDERS[channel](message))
        except TimeoutError:
            problem = f"no answer within {PATIENCE:g} seconds"
        except Exception as error:  # a service's own: its text may hold the address
            response = getattr(error, "response", None)
            what = type(error).__name__ if response is None else response.status_code
            problem = f"it was not taken ({what})"
        else:
            return ""
    return f"{problem}: look at {', '.join(VARIABLES[channel])}"


def _within(seconds: float, send: Send) -> None:
    """A library's own time-out starts anew with every byte. A thread of its own has an end, and no
    event loop of a caller's, in which the blocks would only promise to send."""
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
    # not SlackWebhook: it turns "!channel>" in a text into a call of everyone, and its address is
    # Slack's own alone
    text = escape(f"{message.title}\n{message.body}", quote=False)
    return _post("BERTLINE_SLACK_WEBHOOK", {"text": text})


def _webhook(message: Message) -> Send:
    return _post("BERTLINE_WEBHOOK", message.fields)


def _post(variable: str, fields: dict[str, Any]) -> Send:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    # The block fills in templates: as values of its secrets, texts are not read as templates, and
    # its address is not shown. It may be a private one: it comes from who runs this, not from rows.
    block = CustomWebhookNotificationBlock(
        name="bertline",
        url="{{address}}",
        json_data={name: f"{{{{{name}}}}}" for name in fields},
        secrets={**fields, "address": os.environ[variable]},
        timeout=PATIENCE,
        allow_private_urls=True,
    )
    return lambda: block.notify("")


def _email(message: Message) -> Send:
    from prefect.blocks.notifications import AppriseNotificationBlock

    server = urlsplit(os.environ["BERTLINE_SMTP"])
    plain = "starttls" if server.password else "insecure"
    query = {
        "smtp": str(server.hostname),  # else Apprise asks a table of well-known providers
        "mode": "ssl" if server.scheme == "smtps" else plain,
        "from": f"bertline <{os.environ['BERTLINE_EMAIL_FROM']}>",
        "to": os.environ["BERTLINE_EMAIL_TO"].replace(" ", ""),
        "format": "text",
    }
    told = "&".join(f"{name}={quote(value, safe=',')}" for name, value in query.items())
    block = AppriseNotificationBlock(url=f"mailto://{server.netloc}/?{told}")

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
    told = [f"test {', '.join(scores)} on {verdict.rows:,} rows"] if scores else []
    for each in verdict.comparisons:
        gap = each.difference
        told.append(
            f"{names.metric(each.metric)} against {verdict.model}/{verdict.champion}:"
            f" {gap.value:+.2%}, 95 % interval {gap.low:+.2%} to {gap.high:+.2%}"
        )
    return told
