"""Messages received by real servers, and addresses that never leave the environment."""

import json
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from flows import notify
from flows.notify import VARIABLES, Message, check, message
from pipeline.core.errors import UserError
from pipeline.core.log import FunctionLog
from pipeline.core.records import Interval
from pipeline.registry.records import Comparison, Verdict

SECRET = "x0xb-Hidden"
HOSTILE = "标签 <script>&amp; <!channel> {{ $HOME }} {{ body }} *a* | b\nc"


class Hook:
    """Web server that stores requests and answers with a given status."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.answers: list[int] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((self.path, json.loads(content)))
                answer = hook.answers.pop(0) if hook.answers else 200
                if not answer:
                    time.sleep(3)
                    return
                self.send_response(answer)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{path}"


class Inbox:
    """Handler that stores received mails."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((envelope.rcpt_tos, mail))
        return "250 OK"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(notify, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    for names in VARIABLES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    levels = {name: logging.getLogger(name).level for name in notify.QUIET}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture
def verdict() -> Verdict:
    return Verdict(
        model="news",
        version="4",
        decision="promote",
        reason="it is better",
        champion="3",
        epoch=1,
        question=2,
        level=0.025,
        rows=412,
        scores={"accuracy": 0.9757, "macro_f1": 0.9751},
        comparisons=[
            Comparison(
                metric="macro_f1",
                challenger=0.9751,
                champion=0.9601,
                difference=Interval(value=0.015, low=0.002, high=0.029),
                test="a test",
                p_better=0.01,
                p_worse=0.99,
                detectable=0.01,
            )
        ],
        only_challenger_right=9,
        only_champion_right=2,
        guardrails=[],
        rule={},
        unfit=False,
        evidence={},
    )


def send(channel: str, told: Message) -> tuple[list[str], list[str]]:
    """Return the channels that took the message, and the log."""
    said: list[str] = []
    return notify.notify([channel], told, FunctionLog(said.append)), said


def test_a_verdict_is_told_with_its_scores_and_links(verdict: Verdict) -> None:
    told = message("news", "promoted", "it is better", verdict, run="http://m/1", flow_run=None)
    assert told.title == "news/4: promoted"
    assert told.body.splitlines() == [
        "it is better",
        "test accuracy 0.9757, macro-F1 0.9751 on 412 rows",
        "macro-F1 against news/3: +1.50%, 95 % interval +0.20% to +2.90%",
        "run: http://m/1",
    ]
    assert told.fields["differences"] == {"macro_f1": {"value": 0.015, "low": 0.002, "high": 0.029}}
    assert told.fields["scores"] == {"accuracy": 0.9757, "macro_f1": 0.9751}
    assert told.fields["links"] == {"run": "http://m/1", "report": None, "flow_run": None}


def test_no_verdict_leaves_its_fields_empty() -> None:
    told = message("news", "not retrained", "12 of 50 rows are there")
    assert (told.title, told.body) == ("news: not retrained", "12 of 50 rows are there")
    empty = ("version", "champion", "rows")
    assert [told.fields[name] for name in empty] == [None] * 3
    assert told.fields["scores"] == told.fields["differences"] == {}


def test_a_webhook_gets_the_fields_as_they_are(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    monkeypatch.setenv("BERTLINE_WEBHOOK", hook.address(f"in?key={SECRET}"))
    told = message("news", "held", HOSTILE, verdict, report="http://m/r?a=1&b=2")
    assert send("webhook", told) == (["webhook"], [])
    [(path, content)] = hook.got
    assert path == f"/in?key={SECRET}"
    assert content == told.fields
    assert content["reason"] == HOSTILE.replace("\n", " ")


def test_slack_gets_one_text_in_which_nothing_is_markup(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTLINE_SLACK_WEBHOOK", hook.address(f"services/T/B/{SECRET}"))
    told = message("news", "rejected", HOSTILE, run="http://m/r?a=1&b=2")
    assert send("slack", told) == (["slack"], [])
    [(path, content)] = hook.got
    assert path == f"/services/T/B/{SECRET}"
    assert content == {
        "text": "news: rejected\n标签 &lt;script&gt;&amp;amp; &lt;!channel&gt; {{ $HOME }}"
        " {{ body }} *a* | b c\nrun: http://m/r?a=1&amp;b=2"
    }


@contextmanager
def inbox(monkeypatch: pytest.MonkeyPatch, address: str, **settings: Any) -> Iterator[Inbox]:
    """Run a mail server, and set its address, with its port, in the environment."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("BERTLINE_SMTP", f"{address}:{port}")
    monkeypatch.setenv("BERTLINE_EMAIL_FROM", "line@example.org")
    monkeypatch.setenv("BERTLINE_EMAIL_TO", "a+b@example.org, c@example.org")
    server = Controller(Inbox(), hostname="localhost", port=port, **settings)
    server.start()
    try:
        yield server.handler
    finally:
        server.stop()


def test_each_reader_gets_a_mail_in_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    with inbox(monkeypatch, "smtp://localhost") as got:
        assert send("email", message("news", "failed", HOSTILE)) == (["email"], [])
    readers = [name for names, _ in got.mails for name in names]
    assert sorted(readers) == ["a+b@example.org", "c@example.org"]
    for _, mail in got.mails:
        assert mail["Subject"] == "news: failed"
        assert mail["From"] == "bertline <line@example.org>"
        assert mail.get_content_type() == "text/plain"
        assert mail.get_content().strip() == HOSTILE.replace("\n", " ")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a self-signed certificate of localhost and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize("kind", ["smtp", "smtps"])
def test_a_password_goes_over_an_encrypted_connection_alone(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, kind: str
) -> None:
    logins = []

    def login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=True)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    tls = {"tls_context": context} if kind == "smtp" else {"ssl_context": context}
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    address = f"{kind}://me%40example.org:p%2F%3A%40%25@localhost"
    settings = {"authenticator": login, "auth_required": True, "auth_require_tls": kind == "smtp"}
    with inbox(monkeypatch, address, **settings, **tls) as got:
        assert send("email", message("news", "held", "no better")) == (["email"], [])
    assert logins == [("me@example.org", "p/:@%")]
    assert len(got.mails) == 2


def test_a_password_does_not_go_to_a_server_without_encryption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def login(*data: Any) -> AuthResult:
        asked.append(data)
        return AuthResult(success=True)

    settings = {"authenticator": login, "auth_require_tls": False}
    with inbox(monkeypatch, f"smtp://me:{SECRET}@localhost", **settings) as got:
        told, said = send("email", message("news", "held", "no better"))
    assert (told, asked, got.mails, len(said)) == ([], [], [], 1)
    assert SECRET not in said[0]


def test_a_second_try_reaches_a_server_that_stumbled(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTLINE_WEBHOOK", hook.address(SECRET))
    hook.answers = [503]
    assert send("webhook", message("news", "held", "no better")) == (["webhook"], [])
    assert len(hook.got) == 2


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (500, "the message was refused (500)"),
        (302, "the message was refused (302)"),
        (0, "no answer within 0.5 seconds"),
        (None, "the message was refused (ConnectError)"),
    ],
)
def test_a_server_that_fails_twice_is_a_line_in_the_log_and_the_others_are_told(
    hook: Hook, monkeypatch: pytest.MonkeyPatch, answer: int | None, problem: str
) -> None:
    monkeypatch.setattr(notify, "TIMEOUT", 0.5)
    monkeypatch.setenv("BERTLINE_WEBHOOK", hook.address(SECRET))
    monkeypatch.setenv("BERTLINE_SLACK_WEBHOOK", hook.address("slack"))
    if answer is None:
        monkeypatch.setenv("BERTLINE_WEBHOOK", f"http://127.0.0.1:1/{SECRET}")
    else:
        hook.answers = [answer, answer]
    said: list[str] = []
    told = message("news", "held", "no better")
    assert notify.notify(["webhook", "slack"], told, FunctionLog(said.append)) == ["slack"]
    assert said == [f"webhook was not told: {problem}: look at BERTLINE_WEBHOOK"]


@pytest.mark.parametrize(
    ("channel", "values", "message"),
    [
        ("slack", {}, "BERTLINE_SLACK_WEBHOOK is not set: retrain.notify names slack"),
        ("webhook", {"BERTLINE_WEBHOOK": SECRET}, "BERTLINE_WEBHOOK is malformed"),
        ("webhook", {"BERTLINE_WEBHOOK": f"ftp://h/{SECRET}"}, "set it to https://HOST/PATH"),
        ("email", {}, "BERTLINE_SMTP is not set"),
        ("email", {"BERTLINE_SMTP": f"smtp://me:{SECRET}@h:25/x"}, "BERTLINE_SMTP is malformed"),
        ("email", {"BERTLINE_SMTP": f"smtp://me:{SECRET}@h:587"}, "BERTLINE_EMAIL_FROM is not"),
        (
            "email",
            {
                "BERTLINE_SMTP": "smtp://h",
                "BERTLINE_EMAIL_FROM": "a@b",
                "BERTLINE_EMAIL_TO": f"c@d\r\n{SECRET}",
            },
            "BERTLINE_EMAIL_TO is malformed",
        ),
    ],
)
def test_an_address_that_is_missing_or_none_is_named_not_shown(
    monkeypatch: pytest.MonkeyPatch, channel: str, values: dict[str, str], message: str
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message) as raised:
        check([channel])
    assert SECRET not in str(raised.value)
    told, said = send(channel, Message("news: held", "no better", {}))
    assert (told, said) == ([], [f"{channel} was not told: {raised.value}"])


def test_no_log_line_holds_an_address(
    hook: Hook,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in (*notify.QUIET, "prefect"):
        caplog.set_level(logging.DEBUG, name)
    values = {
        "BERTLINE_SLACK_WEBHOOK": hook.address(f"services/T/B/{SECRET}"),
        "BERTLINE_WEBHOOK": hook.address(f"?token={SECRET}"),
        "BERTLINE_SMTP": f"smtp://me:{SECRET}@127.0.0.1:1",
        "BERTLINE_EMAIL_FROM": "line@example.org",
        "BERTLINE_EMAIL_TO": "reader@example.org",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    told = message("news", "held", "no better")
    for answers in ([], [500] * 4):
        hook.answers = answers
        notify.notify(["slack", "webhook", "email"], told, FunctionLog(said.append))
    shown = [*said, caplog.text, *capfd.readouterr()]
    for text in shown:
        assert SECRET not in text
        assert "127.0.0.1" not in text
    assert [line.split()[0] for line in said] == ["email", "slack", "webhook", "email"]
    assert len(hook.got) == 2 + 4
