"""Packages that only some kinds of files need: each is installed by an extra of its own name."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind


def require_extras(kinds: Iterable[ArtifactKind]) -> None:
    """Raises IncompatibleSpec, with the command that installs it, when a kind needs a package that is not here."""
    for kind in kinds:
        extra = ARTIFACT_FILES[kind].extra
        if extra is not None and find_spec(extra) is None:
            raise IncompatibleSpec(
                f"the artifact `{kind}` needs the package {extra}, which is not installed where the job runs: install "
                f'the extra, `pip install "modelpress[{extra}]"`, or leave `{kind}` out of `artifacts`'
            )
