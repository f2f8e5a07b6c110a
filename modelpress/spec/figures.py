"""Figures as people read them: in tables on a screen and in a model card alike."""

from __future__ import annotations

NOT_MEASURED = "-"


def in_bytes(count: float) -> str:
    """1234567 -> 1.23 MB. Decimal units, three digits."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB"))


def in_counts(count: float) -> str:
    """1234567 -> 1.23 M."""
    return _scaled(count, ("", "k", "M", "G", "T")).strip()


def in_times(ratio: float | None) -> str:
    """3.14159 -> 3.14x."""
    if ratio is None:
        return NOT_MEASURED
    return f"{ratio:.3g}x" if ratio < 100 else f"{ratio:.0f}x"


def in_percent(share: float | None, digits: int = 2) -> str:
    """0.91234 -> 91.23%."""
    return NOT_MEASURED if share is None else f"{100 * share:.{digits}f}%"


def _scaled(count: float, units: tuple[str, ...]) -> str:
    # 999.5 rounds to 1000 in three digits, which belongs to the next unit.
    for unit in units[:-1]:
        if count < 999.5:
            return f"{count:.3g} {unit}" if unit != units[0] or count != int(count) else f"{int(count)} {unit}"
        count /= 1000
    return f"{count:.3g} {units[-1]}"
