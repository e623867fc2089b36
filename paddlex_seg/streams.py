"""Text streams that never fail: what cannot be written is dropped, so that the work goes on.

A terminal may be closed or paused, the reader of a pipe (``| head``) may have ended or may not read, a disk
may be full, and a console may not have Chinese characters. None of this is a reason to end or to halt a run.
"""

import errno
import io
import os
import select
import sys
from typing import IO, Any, TextIO

PATIENCE_SECONDS = 10.0  # for the reader of a pipe; later, nothing waits for it
CHUNK_BYTES = 512  # a pipe that is ready takes at least this much at once, on every system


class LastingWriter(io.RawIOBase):
    """Writes to another raw stream, and drops what that one cannot take.

    ``problem``: the first error. It is set once. ``patience_seconds``: how long a reader is waited for; None
    waits without end.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.problem: OSError | None = None
        self.patience_seconds: float | None = PATIENCE_SECONDS
        self.is_told = False  # whether `new_problem` has returned it

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The file descriptor of the other stream."""
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        """Whether the other stream is a terminal."""
        return bool(self._raw.isatty())

    def write(self, data: Any) -> int:
        """Write some bytes, or drop all of them. Return how many were written or dropped."""
        try:
            self._wait_for_reader()
            written = self._raw.write(memoryview(data)[:CHUNK_BYTES])
        except OSError as error:
            self.problem = self.problem or error
            written = None
        return len(data) if written is None else int(written)

    def _wait_for_reader(self) -> None:
        """Raise TimeoutError when a pipe or terminal is full. Files are always ready."""
        if not hasattr(select, "poll"):  # on Windows
            return
        poll = select.poll()
        poll.register(self._raw, select.POLLOUT)
        patience = 0 if self.problem else self.patience_seconds
        if not poll.poll(None if patience is None else 1000 * patience):
            raise TimeoutError(errno.ETIMEDOUT, f"its reader has read nothing for {patience:g} seconds")

    def close(self) -> None:
        """Close both streams."""
        super().close()
        self._raw.close()


def lasting_stream(raw: Any, encoding: str) -> io.TextIOWrapper:
    """A text stream on a raw stream. Characters that ``encoding`` lacks are written as ``\\u87ba``."""
    buffered = io.BufferedWriter(LastingWriter(raw))
    return io.TextIOWrapper(buffered, encoding, errors="backslashreplace", line_buffering=True)


def new_problem(stream: IO[str]) -> OSError | None:
    """Why a lasting stream has dropped something. Returned once; None for other streams."""
    writer = _lasting_writer(stream)
    if writer is None or writer.problem is None or writer.is_told:
        return None
    writer.is_told = True
    return writer.problem


def insist(stream: IO[str]) -> None:
    """Let a lasting stream wait for its reader without end: what is written to it is the result itself."""
    if (writer := _lasting_writer(stream)) is not None:
        writer.patience_seconds = None


def require_written(stream: IO[str]) -> None:
    """Raise the error for which a lasting stream has dropped something: BrokenPipeError without a reader."""
    stream.flush()
    if (writer := _lasting_writer(stream)) is not None and writer.problem is not None:
        raise writer.problem


def _lasting_writer(stream: IO[str]) -> LastingWriter | None:
    writer = getattr(getattr(stream, "buffer", None), "raw", None)
    return writer if isinstance(writer, LastingWriter) else None


def make_standard_streams_last() -> None:
    """Replace standard output and standard error of the interpreter by lasting streams.

    Streams that a calling program has put in their place stay. Closed descriptors (``>&-``) are opened on the
    null device. Otherwise the next file to be opened gets their number, and with it what native code prints.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)
    sys.stdout = _lasting(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _lasting(sys.stderr, sys.__stderr__, 2)


def _lasting(stream: TextIO | None, original: TextIO | None, descriptor: int) -> TextIO:
    """``stream`` if a calling program has set it, else a lasting stream for it."""
    if stream is None:  # its descriptor was closed when the interpreter started
        return lasting_stream(io.FileIO(descriptor, "w", closefd=False), "utf-8")
    if stream is not original:
        return stream
    buffer = stream.buffer
    return lasting_stream(
        getattr(buffer, "raw", buffer), stream.encoding
    )  # with "python -u", it has no buffer
