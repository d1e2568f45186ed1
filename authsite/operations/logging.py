"""Log lines that name the request that they belong to, as text or as JSON; never a token."""

import json
import logging
import os
from datetime import UTC, datetime
from select import PIPE_BUF, select
from typing import Any, TextIO

from authsite.accounts.token_text import redacted
from devices.telemetry import request_id

# What ends a line, or moves what a terminal shows (C0, DEL, C1, U+2028, U+2029), as it is escaped.
CONTROLS = {
    number: chr(number).encode("unicode_escape").decode()
    for number in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
}
CONTROLS_OF_LINES = {**CONTROLS, ord("\n"): "\n  "}  # of a text that keeps its lines, each indented


PATIENCE = 0.1  # seconds that a line waits for whoever reads the log


class BoundedHandler(logging.StreamHandler[TextIO]):
    """Writes lines to standard error, and leaves out what its reader does not take.

    Where a pipe or the journal's socket is full, since nobody reads it, each thread that logs would
    wait in `write` for ever, and the event loop with them. Once one line has waited in vain, the
    others do not wait, until there is room again; then a line says how many were left out.
    """

    _left_out = 0  # lines
    _is_cut = False  # whether the first of them was begun

    def emit(self, record: logging.LogRecord) -> None:
        try:
            number = self.stream.fileno()
        except (AttributeError, OSError, ValueError):  # it is closed, or no file: tests listen
            super().emit(record)
            return
        try:
            text = self.format(record) + self.terminator
            if self._left_out:
                begun = self.terminator if self._is_cut else ""
                text = begun + self.format(_left_out(self._left_out)) + self.terminator + text
            line = text.encode(errors="backslashreplace")
            for start in range(0, len(line), PIPE_BUF):
                if not select([], [number], [], 0 if self._left_out else PATIENCE)[1]:
                    self._is_cut = bool(start) or self._is_cut
                    self._left_out += 1
                    return
                os.write(number, line[start : start + PIPE_BUF])
            self._left_out, self._is_cut = 0, False
        except Exception:  # noqa: BLE001 - as the library's own handlers do
            self.handleError(record)


def _left_out(lines: int) -> logging.LogRecord:
    said = "%d lines were left out: nobody read the log"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, said, (lines,), None)


class RefusalFilter(logging.Filter):
    """Keeps every record; those of requests that Django refuses lose their traceback.

    A stranger can cause any number of them, by a wrong Host say, and the message says why.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        is_refused = record.name == "django.request" and record.levelno < logging.ERROR
        if is_refused or record.name.startswith("django.security."):
            record.exc_info = None
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, `request`, `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is one of its texts."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            line["request"] = current
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return redacted(json.dumps(line, ensure_ascii=False))


class LineFormatter(logging.Formatter):
    """One readable line, with the request's id where there is one.

    What strangers sent, such as a name or an address, may be in a message, and in that of an
    exception: it begins no line.
    """

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the library's name
        return super().formatException(ei).translate(CONTROLS_OF_LINES)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        line = super().formatMessage(record).translate(CONTROLS)
        current = request_id.get()
        return f"{line} [{current}]" if current else line
