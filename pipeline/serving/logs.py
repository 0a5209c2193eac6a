"""Log of the server: JSON lines on standard error, which never contain texts or labels."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO


class Log:
    """Writer of JSON lines to a stream, by default the current standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream

    def __call__(self, **fields: Any) -> None:
        stream = self.stream or sys.stderr
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            stream.write(json.dumps({"time": when} | fields) + "\n")
            stream.flush()
        except (OSError, ValueError):  # a closed log must not stop the server
            pass


class JsonFormatter(logging.Formatter):
    """Formatter of library logs, as lines of the same form."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": when,
            "level": record.levelname.lower(),
            "message": " ".join(record.getMessage().split()),
        }
        if record.exc_info and record.exc_info[1]:
            line["error"] = place_of(record.exc_info[1])
        return json.dumps(line)


def place_of(error: BaseException) -> str:
    """Return the type of an error and where it was raised, without its message: it may quote a
    text."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return " < ".join([type(error).__name__, *reversed(places)])


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": JsonFormatter}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
    "loggers": {
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "uvicorn.error": {"level": "WARNING"},
        "bertline": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "asyncio": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
    },
}
"""Logging configuration of uvicorn: without request lines, which the application logs itself."""
