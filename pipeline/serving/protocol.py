"""HTTP protocol of a connection: uvicorn's, with limits on incomplete requests and cheap refusals.

It acts before the application sees a request.
"""

import asyncio
import json
import secrets
from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pipeline.serving.guard import CLOSE, Caller, Guard, Refusal

HEADER_BYTES = 64 * 2**10
OVERHEAD_BYTES = 2**20  # bytes after the header that are not body: chunk sizes and trailers


class _Answered:
    """Stand-in for uvicorn's request cycle of a request that was refused early."""

    response_started = response_complete = True
    message_event = asyncio.Event()


ANSWERED: Any = _Answered()


class Protocol(HttpToolsProtocol):
    """Protocol of uvicorn with limits for slow clients, which it lacks.

    While no request of a connection is being answered, the next header (or the rest of a refused
    body) must arrive within limits of time and bytes. The client must also read a response within
    the time limit. Clients that send complete requests and read the responses start no timer.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        guard: Guard = self.config.app  # type: ignore[assignment]
        self.caller, self.seconds = Caller(), guard.settings.limits.slow_header
        self.read_timer: TimerHandle | None = None
        self.write_timer: TimerHandle | None = None
        self.close_timer: TimerHandle | None = None
        self.in_header = self.in_message = self.closes = False
        self.overhead = 0
        self._start_read_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_read_timer()
        for timer in (self.write_timer, self.close_timer):
            if timer:
                timer.cancel()
        self.caller.leave()

    def data_received(self, data: bytes) -> None:
        if self.closes and self._answering():
            return  # the connection ends after this answer
        self.overhead += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.overhead > (HEADER_BYTES if self.in_header else OVERHEAD_BYTES):
            self.close_with(431, f"the header is longer than {HEADER_BYTES:,} bytes")
        elif not self._answering() and (self.in_message or not self.timeout_keep_alive_task):
            self._start_read_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"bertline.caller": self.caller}  # type: ignore[dict-item]
        self.in_header = self.in_message = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_header:  # else it is a trailer, which is ignored
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_read_timer()
        self.in_header = False
        if self.transport.is_closing() or self.closes:
            return  # it follows the last request that is answered
        if self._answering() or not self._refused_early():
            super().on_headers_complete()
            if self.parser.should_upgrade():  # the following bytes may be of another protocol
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
        self._stop_read_timer()
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
            self._start_read_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.write_timer = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.write_timer:
            self.write_timer.cancel()

    def send_400_response(self, msg: str) -> None:
        self.close_with(400, "this is not a valid HTTP request")

    def close_with(self, status: int, line: str) -> None:
        """Send an error and close the connection.

        While an earlier request is being answered, close after its answer without the error, which
        the client would take for another answer.
        """
        body_pending = self.in_message and not self.in_header and not self.pipeline
        if self._answering() and not (body_pending and not self.cycle.response_started):
            self.cycle.keep_alive = False
            self.closes = True
            self.flow.pause_reading()
            return
        if self.transport.is_closing():
            return
        self._send_refusal(Refusal(status, line, CLOSE), secrets.token_hex(8))
        self._close()

    def _refused_early(self) -> bool:
        """Refuse the request by its header if it cannot be admitted; return True if refused.

        Its body is then dropped, and the connection's next request is handled as usual.
        """
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["path"] = self.url.decode("latin-1")
        guard: Guard = self.config.app  # type: ignore[assignment]
        result = guard.refuse_early(self.scope, self.caller)  # type: ignore[arg-type]
        if result is None:
            return False
        refusal, request_id = result
        parser = self.parser
        # of these requests it is unknown if a body follows
        unknown = parser.should_upgrade() or self.expect_100_continue
        self.closes = (
            unknown or parser.get_http_version() == "1.0" or not parser.should_keep_alive()
        )
        if self.closes:
            refusal.headers = {**refusal.headers, **CLOSE}
        self._send_refusal(refusal, request_id)
        self.cycle = ANSWERED
        if unknown:
            self._close()
        self.on_response_complete()
        return True

    def _close(self) -> None:
        """Close the connection once everything is sent, at the latest after the time limit."""
        self._stop_read_timer()
        self.transport.close()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(self.seconds, self.transport.abort)

    def _send_refusal(self, refusal: Refusal, request_id: str) -> None:
        body = json.dumps({"error": refusal.line}).encode()
        headers = {
            "content-type": "application/json",
            "content-length": len(body),
            "x-request-id": request_id,
            "x-content-type-options": "nosniff",
            **refusal.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[refusal.status] + head.encode() + b"\r\n" + body)

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: such a request is answered like any other."""

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_read_timer(self) -> None:
        if self.read_timer is None:
            self.read_timer = self.loop.call_later(self.seconds, self._too_slow)

    def _stop_read_timer(self) -> None:
        if self.read_timer:
            self.read_timer.cancel()
        self.read_timer = None

    def _too_slow(self) -> None:
        self.read_timer = None
        if self.transport.is_closing() or self._answering():
            return
        if self.in_header:
            self.close_with(408, f"the header did not arrive within {self.seconds:g} s")
        else:
            self._close()
