"""For how long networks are timed in tests."""

# No test looks at how fast a network is, and to time each properly takes a quarter of a small job.
LATENCY_SECONDS = 0.01
