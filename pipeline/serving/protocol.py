"""What is done with a connection before the application hears of a request.

uvicorn's protocol, with limits on what is not whole yet, and with refusals that cost little.
"""

import asyncio
import json
import secrets
from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pipeline.serving.guard import CLOSE, Caller, Guard, Refusal

HEADER_BYTES = 64 * 2**10
OVERHEAD_BYTES = 2**20  # of a request whose header is whole: how its body is cut, and trailers


class _Answered:
    """What uvicorn asks of a request that it has not seen."""

    response_started = response_complete = True
    message_event = asyncio.Event()


ANSWERED: Any = _Answered()


class Protocol(HttpToolsProtocol):
    """uvicorn's, for clients that take their time: it has no limits for what is not whole yet.

    While nothing of a connection is being answered, its next header (or the rest of a body that
    was refused) has to come within a limit of seconds and of bytes; and an answer has to be taken
    in within such a time. A client that asks whole requests and reads makes no timer run.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        guard: Guard = self.config.app  # type: ignore[assignment]
        self.caller, self.seconds = Caller(), guard.settings.limits.slow_header
        self.timer: TimerHandle | None = None
        self.stalled: TimerHandle | None = None
        self.in_header = self.in_message = self.closes = False
        self.ending: TimerHandle | None = None
        self.overhead = 0
        self._hurry()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._relax()
        for timer in (self.stalled, self.ending):
            if timer:
                timer.cancel()
        self.caller.leave()

    def data_received(self, data: bytes) -> None:
        if self.closes and self._answering():
            return  # nobody will look at it
        self.overhead += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.overhead > (HEADER_BYTES if self.in_header else OVERHEAD_BYTES):
            self.close_with(431, f"the header is longer than {HEADER_BYTES:,} bytes")
        elif not self._answering() and (self.in_message or not self.timeout_keep_alive_task):
            self._hurry()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"bertline.caller": self.caller}  # type: ignore[dict-item]
        self.in_header = self.in_message = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_header:  # else it is a trailer, which nobody reads
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._relax()
        self.in_header = False
        if self.transport.is_closing() or self.closes:
            return  # it stands behind the last request
        if self._answering() or not self._turned_away():
            super().on_headers_complete()
            if self.parser.should_upgrade():  # what follows is in no protocol that is known here
                self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self.overhead -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_message, self.overhead = False, 0
        super().on_message_complete()
        if self._answering() or self.transport.is_closing():
            return
        if self.closes:
            self._close()
            return
        self._relax()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._close()
        if self.in_message and not self.transport.is_closing() and not self._answering():
            self._hurry()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stalled = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stalled:
            self.stalled.cancel()

    def send_400_response(self, msg: str) -> None:
        self.close_with(400, "this is no HTTP request")

    def close_with(self, status: int, line: str) -> None:
        """Say what is wrong and end the connection; what was asked whole before is answered first,
        and then nothing is said, for it would be taken for another answer."""
        mine = self.in_message and not self.in_header and not self.pipeline
        if self._answering() and not (mine and not self.cycle.response_started):
            self.cycle.keep_alive = False
            self.closes = True
            self.flow.pause_reading()
            return
        if self.transport.is_closing():
            return
        self._say(Refusal(status, line, CLOSE), secrets.token_hex(8))
        self._close()

    def _turned_away(self) -> bool:
        """True if the request is refused already. Its body is let go as that of any answered one,
        and the next request of this connection is looked at anew."""
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["path"] = self.url.decode("latin-1")
        guard: Guard = self.config.app  # type: ignore[assignment]
        turned = guard.turns_away(self.scope, self.caller)  # type: ignore[arg-type]
        if turned is None:
            return False
        refusal, identity = turned
        parser = self.parser
        own = parser.should_upgrade() or self.expect_100_continue  # whether a body comes is unknown
        self.closes = own or parser.get_http_version() == "1.0" or not parser.should_keep_alive()
        if self.closes:
            refusal.headers = {**refusal.headers, **CLOSE}
        self._say(refusal, identity)
        self.cycle = ANSWERED
        if own:
            self._close()
        self.on_response_complete()
        return True

    def _close(self) -> None:
        """End the connection once all is sent, or is not taken in within the limit of seconds."""
        self._relax()
        self.transport.close()
        if self.ending is None:
            self.ending = self.loop.call_later(self.seconds, self.transport.abort)

    def _say(self, refusal: Refusal, identity: str) -> None:
        body = json.dumps({"error": refusal.line}).encode()
        headers = {
            "content-type": "application/json",
            "content-length": len(body),
            "x-request-id": identity,
            "x-content-type-options": "nosniff",
            **refusal.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[refusal.status] + head.encode() + b"\r\n" + body)

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: such a request is answered as any other."""

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _hurry(self) -> None:
        if self.timer is None:
            self.timer = self.loop.call_later(self.seconds, self._too_slow)

    def _relax(self) -> None:
        if self.timer:
            self.timer.cancel()
        self.timer = None

    def _too_slow(self) -> None:
        self.timer = None
        if self.transport.is_closing() or self._answering():
            return
        if self.in_header:
            self.close_with(408, f"the header was not here within {self.seconds:g} s")
        else:
            self._close()
