"""`python -m modelpress`: the same as the command `modelpress`."""

from __future__ import annotations

from modelpress.client.cli import main

if __name__ == "__main__":
    main()
