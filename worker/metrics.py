"""Figures of a worker for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CLAIMS = Counter("modelpress_worker_claims_total", "Jobs and inspections taken.", ["work"])
FINISHED = Counter(
    "modelpress_worker_finished_total", "Jobs and inspections let go of, by outcome.", ["work", "outcome"]
)
SECONDS = Histogram(
    "modelpress_worker_seconds",
    "Time from claim to end.",
    ["work"],
    buckets=(1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600),
)
BUSY = Gauge("modelpress_worker_busy", "1 while a job or inspection runs here.")
HEARTBEAT_FAILURES = Counter("modelpress_worker_heartbeat_failures_total", "Heartbeats that the database did not take.")
DATABASE_ERRORS = Counter("modelpress_worker_database_errors_total", "Writes and looks that the database did not take.")
WALL = Gauge(
    "modelpress_worker_wall", "Walls around its engines: Landlock's ABI, seccomp 1, bubblewrap 1; 0: none.", ["wall"]
)
REAPED = Counter("modelpress_worker_reaped_total", "Leases of other workers that ran out and were taken back.")
