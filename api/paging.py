"""Pages of lists."""

from __future__ import annotations

from typing import TypeVar

from modelpress.spec.resources import Artifact, Dataset, Job, Model, Page

Item = TypeVar("Item", Model, Dataset, Job, Artifact)


def to_page(items: list[Item], limit: int) -> Page[Item]:
    """The first `limit` of the items, which are one more than that where another page follows."""
    shown = items[:limit]
    return Page(items=shown, next=shown[-1].id if len(items) > limit else None)
