"""Write the results that lie in `benchmarks/results` as a table into the README beside this: `python -m benchmarks`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.result import RESULTS

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def table(results: list[dict[str, Any]]) -> str:
    """One line a figure: its value, its bound, and what made it."""
    lines = ["| benchmark | figure | value | bound | kept | measured |", "|---|---|---|---|---|---|"]
    for result in results:
        machine = result["machine"]
        where = f"{machine.get('gpu') or machine['processor']}, {machine['cores']} cores, {result['measured_at'][:10]}"
        for figure in result["figures"]:
            bound = f">= {figure['at_least']:g}" if figure["at_least"] is not None else ""
            bound = f"<= {figure['at_most']:g}" if figure["at_most"] is not None else bound
            kept = {True: "yes", False: "**no**", None: ""}[figure["met"]]
            value = f"{figure['value']:.3g}" + ("" if figure["unit"] == "ratio" else f" {figure['unit']}")
            lines.append(f"| `{result['benchmark']}` | {figure['name']} | {value} | {bound} | {kept} | {where} |")
    return "\n".join(lines)


def insert(text: str, block: str) -> str:
    """The text with what stands between the two marks replaced."""
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{block}\n{END}", text, flags=re.DOTALL)


def main() -> None:
    """Read every result with figures, write the table."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    README.write_text(insert(README.read_text(), table([result for result in results if "figures" in result])))


if __name__ == "__main__":
    main()
