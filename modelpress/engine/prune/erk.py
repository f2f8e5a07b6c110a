"""How many weights each layer keeps under Erdős-Rényi-Kernel densities (Evci et al. 2020, arXiv 1911.11134)."""

from __future__ import annotations

from collections.abc import Mapping


def erk_kept(shapes: Mapping[str, tuple[int, ...]], kept: int, most: Mapping[str, int]) -> dict[str, int]:
    """Share out `kept` weights among layers, those of the weights' `shapes`, to the weight.

    A layer's density is proportional to (n_in + n_out + k_h + k_w) / (n_in n_out k_h k_w) (section 3 of the paper), so
    the number it keeps to the sum of its shape. A layer keeps `most[name]` at most, what it has: where its share would
    be above, the rest goes to the others in the same proportions. What is left of a weight goes to the largest
    remainders, of equal ones to the first. `kept` is at most the sum of `most`.

    Shapes (4, 4) and (10, 10) and 14 kept: 14 * 8 / 28 = 4 and 14 * 20 / 28 = 10.
    """
    counts: dict[str, int] = {}
    free = {name: sum(shape) for name, shape in shapes.items()}
    while free:
        total = sum(free.values())
        full = [name for name, part in free.items() if kept * part >= most[name] * total]
        if not full:
            break
        for name in full:
            counts[name] = most[name]
            kept -= most[name]
            del free[name]
    if free:
        total = sum(free.values())
        shares = {name: divmod(kept * part, total) for name, part in free.items()}
        counts |= {name: whole for name, (whole, _) in shares.items()}
        over = kept - sum(whole for whole, _ in shares.values())
        for name in sorted(shares, key=lambda name: -shares[name][1])[:over]:
            counts[name] += 1
    return {name: counts[name] for name in shapes}
