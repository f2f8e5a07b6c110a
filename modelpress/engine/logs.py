"""The log of an engine's process: readable lines on standard output, which whoever started it keeps as `log.txt`."""

from __future__ import annotations

import logging
import sys
import time


def log_to_stdout() -> None:
    """Send log lines of level INFO and above to standard output, each with its time in UTC."""
    formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # The exporter tells of its passes, one line each; what matters of them comes as an error.
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.WARNING)
