"""What Prometheus reads at ``/metrics``."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The numbers of one service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "paddlex_seg_requests",
            "Requests, by path and HTTP status.",
            ["path", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "paddlex_seg_request_seconds",
            "Time from the start of a request with images to its reply.",
            buckets=SECONDS,
            registry=registry,
        )
        self.predict_seconds = Histogram(
            "paddlex_seg_predict_seconds",
            "Time of the model for an image, in a batch its share.",
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_images = Histogram(
            "paddlex_seg_batch_images", "Images per batch.", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.dropped = Counter(
            "paddlex_seg_dropped_images",
            "Images that were not predicted, because of the client_gone or the deadline.",
            ["reason"],
            registry=registry,
        )
        self.waiting = Gauge(
            "paddlex_seg_waiting_images", "Images that wait or are being predicted.", registry=registry
        )

    def text(self) -> bytes:
        """All numbers in Prometheus' text format."""
        return generate_latest(self._registry)
