"""What the service counts of itself, in the form that Prometheus reads."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TILES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Counts:
    """Counters with a register of their own, so that two services in one process do not mix.

    Args:
        requests: by method, route and status; routes as the description of the service writes them.
        images_waiting: for the nets, or on their way through them.
        batch_tiles: tiles that went through a net together.
    """

    registry: CollectorRegistry
    requests: Counter
    request_seconds: Histogram
    open_requests: Gauge
    body_bytes: Gauge
    images_waiting: Gauge
    batch_tiles: Histogram
    batch_seconds: Histogram

    def text(self) -> bytes:
        """All of them, as Prometheus' text."""
        return generate_latest(self.registry)


def new_counts() -> Counts:
    """Counters at zero."""
    own = CollectorRegistry(auto_describe=False)
    return Counts(
        own,
        requests=Counter(
            "diapir_requests", "Requests answered.", ["method", "route", "status"], registry=own
        ),
        request_seconds=Histogram(
            "diapir_request_seconds", "From the first byte to the end of the answer.", ["route"], buckets=_SECONDS,
            registry=own,
        ),
        open_requests=Gauge("diapir_open_requests", "Requests that are worked on now.", registry=own),
        body_bytes=Gauge("diapir_body_bytes", "Bodies that are held now.", registry=own),
        images_waiting=Gauge("diapir_images_waiting", "Images before the nets, or on their way.", registry=own),
        batch_tiles=Histogram(
            "diapir_batch_tiles", "Tiles that went through a net together.", buckets=_TILES, registry=own
        ),
        batch_seconds=Histogram(
            "diapir_batch_seconds", "Time of a batch in the nets.", buckets=_SECONDS, registry=own
        ),
    )  # fmt: skip
