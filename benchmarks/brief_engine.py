"""An engine that gives up at once: for what happens before an engine starts. The standard library alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

(Path(sys.argv[-1]) / "failure.json").write_text(json.dumps({"kind": "internal", "message": "a benchmark's engine"}))
sys.exit(1)
