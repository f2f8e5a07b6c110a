"""A long run over the corpus: `python -m tests.hostile`; exits with 1 when a file gets through."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.hostile.corpus import KINDS, SEED, corpus
from tests.hostile.hostile_file import HostileFile
from tests.hostile.inspection import Inspected, inspect
from tests.hostile.kinds import damaged


def main() -> int:
    """Run, tell the faults, the count and the slowest."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--mutations", type=int, default=500, help="of each good file, for each further seed")
    parser.add_argument("--seeds", type=int, default=4, help="further seeds of mutations")
    parser.add_argument("--kind", choices=KINDS, help="this kind alone")
    options = parser.parse_args()
    inspected: list[Inspected] = []
    if options.kind:
        batches: list[Iterator[HostileFile]] = [KINDS[options.kind](SEED)]
    else:
        batches = [corpus(), *(damaged.files(SEED + n, options.mutations) for n in range(1, options.seeds + 1))]
    for batch in batches:
        with TemporaryDirectory(prefix="hostile-") as folder:
            inspected += inspect(batch, Path(folder))
    wrong = [one for one in inspected if one.faults]
    for one in wrong:
        sys.stdout.write(f"{one.name}: {' | '.join(one.faults)[:500]}\n")
    slowest = sorted(inspected, key=lambda one: -one.seconds)[:5]
    sys.stdout.write(f"{len(inspected)} files, {len(wrong)} with faults; {sum(i.seconds for i in inspected):.1f} s\n")
    sys.stdout.write("slowest: " + ", ".join(f"{one.name} {one.seconds:.2f} s" for one in slowest) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
