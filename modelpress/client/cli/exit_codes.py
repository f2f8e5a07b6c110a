"""What the command ends with when it has not done what it was told."""

from __future__ import annotations

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
