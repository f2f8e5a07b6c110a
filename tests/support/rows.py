"""Rows that a test of jobs needs before it can begin."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from db.database import Database
from db.models import Dataset, Job, Model
from db.queries.inspections import claim_inspection, finish_inspection
from db.queries.jobs import create_job
from db.queries.teams import create_team
from db.queries.uploads import create_dataset, create_model
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.failure import Failure
from modelpress.spec.inspection import DatasetInspection, ModelInspection
from modelpress.spec.job import JobSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.steps import Distill, Prune
from modelpress.spec.student import Uploaded
from modelpress.spec.training import Training

ARCHITECTURE = ArchitectureRef(architecture="nin_cifar", arguments={"num_classes": 10, "in_channels": 3})
PREPROCESSING = Preprocessing(mean=(0.5, 0.25, 0.125), std=(0.2, 0.3, 0.4))
_numbers = count()


def any_sha256() -> str:
    """A hash that nothing else has."""
    return hashlib.sha256(str(next(_numbers)).encode()).hexdigest()


@dataclass(frozen=True)
class Tenant:
    """A team in a database, and what it does."""

    database: Database
    team_id: str

    def upload_model(self, *, sha256: str | None = None, name: str = "a model") -> Model:
        """A model that waits for its inspection."""
        with self.database.session() as session:
            return create_model(
                session,
                self.team_id,
                name=name,
                format="safetensors",
                architecture=ARCHITECTURE,
                image_size=32,
                preprocessing=PREPROCESSING,
                sha256=sha256 or any_sha256(),
                size=1_000,
            )

    def upload_dataset(self, *, sha256: str | None = None) -> Dataset:
        """A data set that waits for its inspection."""
        with self.database.session() as session:
            return create_dataset(session, self.team_id, name="images", sha256=sha256 or any_sha256(), size=2_000)

    def submit(
        self,
        model: Model,
        dataset: Dataset | None = None,
        *,
        sparsity: float = 0.5,
        students: Sequence[Model] = (),
        **more: Any,
    ) -> Job:
        """A job in the queue; `more` is what else its spec says."""
        with self.database.session() as session:
            spec = spec_for(model, dataset, sparsity=sparsity, students=students, **more)
            job, _ = create_job(session, self.team_id, spec)
            return job


def inspect(database: Database, result: ModelInspection | DatasetInspection | Failure) -> None:
    """Play the worker: finish the inspection that waits longest."""
    with database.session() as session:
        claimed = claim_inspection(session, "tester", 30)
        assert claimed is not None
        assert finish_inspection(session, claimed.kind, claimed.id, claimed.attempt, result)


def new_tenant(database: Database, name: str = "a team") -> Tenant:
    """A new team."""
    with database.session() as session:
        return Tenant(database, create_team(session, name).id)


def spec_for(
    model: Model,
    dataset: Dataset | None = None,
    *,
    sparsity: float = 0.5,
    students: Sequence[Model] = (),
    **more: Any,
) -> JobSpec:
    """A job that trains these uploaded students one after the other, and prunes the last without training."""
    distill = [Distill(student=Uploaded(model=student.id), training=Training()) for student in students]
    return JobSpec(
        name="a job",
        model=model.id,
        dataset=None if dataset is None else dataset.id,
        steps=(*distill, Prune(sparsity=sparsity)),
        **more,
    )
