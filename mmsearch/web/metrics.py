"""What is counted of the server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts requests by route and status, and says what the library holds."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "mmsearch_requests", "Requests that were answered.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "mmsearch_request_seconds",
            "How long answers took.",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self._registry,
        )
        self._media = Gauge("mmsearch_media", "Files of each kind.", ["modality"], registry=self._registry)
        self._segments = Gauge("mmsearch_segments", "Segments that can be found.", registry=self._registry)
        self._failures = Gauge("mmsearch_failures", "Files that can't be indexed.", registry=self._registry)
        self._indexing = Gauge("mmsearch_indexing", "Whether an index run is under way.", registry=self._registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        known = method if method in ("GET", "HEAD", "POST", "DELETE") else "other"
        self._requests.labels(known, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self, media: dict[str, int], segments: int, failures: int, *, indexing: bool) -> bytes:
        """Return all of it in Prometheus's text format, with the library as it is now."""
        for modality, count in media.items():
            self._media.labels(modality).set(count)
        self._segments.set(segments)
        self._failures.set(failures)
        self._indexing.set(indexing)
        return generate_latest(self._registry)
