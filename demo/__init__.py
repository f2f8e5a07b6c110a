"""The main job, end to end, for everybody to see: `python -m demo`."""

from __future__ import annotations

import os

# Threads that wait shall sleep: where they spin, a training beside other work takes many times as long. OpenMP reads it
# when torch is loaded, which is why it is set before anything else.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
