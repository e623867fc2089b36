"""Why a request is not answered with a result."""


class RequestProblem(Exception):
    """A mistake in a request, or a reason why it is not served now.

    status: the HTTP status of the reply. message: what was found, what was expected and what to do, for the
    sender. retry_after: seconds after which the sender may try again.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class ClientGone(Exception):
    """The client has closed the connection, so nobody waits for the reply."""
