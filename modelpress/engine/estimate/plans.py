"""The steps whose result an inspection estimates, as a recipe has them."""

from __future__ import annotations

from pydantic import JsonValue

Plan = tuple[dict[str, JsonValue], ...]

PLANS: tuple[Plan, ...] = (
    ({"kind": "prune", "sparsity": 0.5},),
    ({"kind": "prune", "sparsity": 0.75},),
    ({"kind": "prune", "sparsity": 0.9},),
    ({"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.25}},),
    ({"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.5}},),
    ({"kind": "factorize", "rank": {"kind": "ratio", "value": 0.5}},),
    ({"kind": "factorize", "rank": {"kind": "ratio", "value": 0.25}},),
    ({"kind": "quantize", "bits": 8},),
    ({"kind": "quantize", "bits": 4},),
    # Those of the ready recipes `no-data` and `gentle`. That of `smallest` gets its zeros from the training alone.
    ({"kind": "quantize", "bits": 6, "first_and_last_bits": 8},),
    ({"kind": "prune", "sparsity": 0.5}, {"kind": "quantize", "bits": 8}),
    (
        {"kind": "prune", "sparsity": 0.9},
        {"kind": "quantize", "scheme": "codebook", "bits": 4, "first_and_last_bits": 8},
    ),
    ({"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.5}}, {"kind": "quantize", "bits": 8}),
    ({"kind": "factorize", "rank": {"kind": "ratio", "value": 0.25}}, {"kind": "quantize", "bits": 8}),
)
"""Each alone at a few strengths, then several in a row."""
