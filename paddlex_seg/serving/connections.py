"""HTTP connections that are closed if they stay silent: uvicorn waits for the head of a request for ever."""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """Closes itself when no request has begun within ``silent_seconds``."""

    silent_seconds: ClassVar[float] = 75.0  # longer than proxies keep connections, so that they close first
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to watch."""
        super().connection_made(transport)
        self._watch(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the watch."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _watch(self, last_request: object) -> None:
        self._timer = self.loop.call_later(self.silent_seconds, self._look, last_request)

    def _look(self, last_request: object) -> None:
        """Close the connection if no request has begun since the last look, and all have their replies.

        Also one that still sends the body of a request that was refused.
        """
        if self.cycle is last_request and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
        else:
            self._watch(self.cycle)
