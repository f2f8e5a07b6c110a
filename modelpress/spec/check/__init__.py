"""Does a recipe fit a model and a data set? Asked by the API before a job is accepted, and by the engine.

Everything here works on inspections alone, without torch, so that a step that cannot apply is refused at once and
not after an hour. What is asked of a step is in a file per method.
"""

from __future__ import annotations

from collections.abc import Mapping

from modelpress.spec.check.distill import distill_misfits
from modelpress.spec.check.factorize import factorize_data_misfits, factorize_misfits, factorize_ranks
from modelpress.spec.check.images import image_misfits
from modelpress.spec.check.labels import label_misfits
from modelpress.spec.check.layers import select_layers
from modelpress.spec.check.misfit import Misfit, listed
from modelpress.spec.check.prune import prune_data_misfits, prune_misfits
from modelpress.spec.check.prune_channels import prune_channels_data_misfits, prune_channels_misfits
from modelpress.spec.check.quantize import quantize_bits, quantize_misfits
from modelpress.spec.check.training import training_misfits
from modelpress.spec.check.work import MOST_WORK, too_much_work, work_of_patterns
from modelpress.spec.inspection import DatasetInspection, LayerInspection, ModelInspection
from modelpress.spec.job import ARTIFACT_FILES, Recipe
from modelpress.spec.method import METHODS
from modelpress.spec.steps import Distill, Factorize, Prune, PruneChannels, Quantize
from modelpress.spec.student import Uploaded

__all__ = ["Misfit", "check", "factorize_ranks", "quantize_bits", "select_layers"]


def check(
    recipe: Recipe,
    model: ModelInspection,
    dataset: DatasetInspection | None,
    students: Mapping[str, ModelInspection] | None = None,
) -> list[Misfit]:
    """Everything that keeps `recipe` from being carried out on this model and data set; empty when nothing does.

    `students` are the inspections of the uploaded students by the ids that the recipe names them by.
    """
    students = students or {}
    misfits = _data_misfits(model, dataset)
    layers: list[LayerInspection] | None = list(model.layers)
    work = 0
    for index, step in enumerate(recipe.steps):
        where = f"steps.{index}"
        if dataset is None and (METHODS[step.kind].needs_data or step.training is not None):
            misfits.append(
                Misfit(where=where, message=f"step `{step.kind}` trains, which needs a data set; give `dataset`")
            )
        elif isinstance(step, Prune):
            misfits += prune_data_misfits(step, dataset, where)
        elif dataset is None and isinstance(step, PruneChannels):
            misfits += prune_channels_data_misfits(step, where)
        elif dataset is None and isinstance(step, Factorize):
            misfits += factorize_data_misfits(step, where)
        if dataset is not None:
            misfits += label_misfits(step, dataset, where)
        if dataset is not None and step.training is not None:
            misfits += training_misfits(step.training, dataset, where)
        if layers is not None:
            work += work_of_patterns(step, layers)
            if work > MOST_WORK:
                return [*misfits, Misfit(where=f"{where}.layers", message=too_much_work(layers))]
        # The layers of a student that is to be built are not known yet, nor a pair's once a layer was factorized, nor
        # how large layers are without some channels: the engine checks such steps when it comes to them.
        if isinstance(step, Distill):
            misfits += distill_misfits(step, model, students, where)
            if isinstance(step.student, Uploaded) and step.student.model in students:
                layers = list(students[step.student.model].layers)
            elif step.replaces_network:
                layers = None
        elif isinstance(step, Prune) and layers is not None:
            misfits += prune_misfits(step, layers, where)
        elif isinstance(step, Quantize) and layers is not None:
            misfits += quantize_misfits(step, layers, where)
        elif isinstance(step, PruneChannels):
            if layers is not None:
                misfits += prune_channels_misfits(step, layers, where)
            layers = None
        elif isinstance(step, Factorize):
            if layers is not None:
                misfits += factorize_misfits(step, layers, where)
            layers = None
    uncalibrated = [kind for kind in recipe.artifacts or () if ARTIFACT_FILES[kind].precision != "fp32"]
    if dataset is None and uncalibrated:
        misfits.append(
            Misfit(
                where="artifacts",
                message=f"{listed(uncalibrated)} is calibrated on images; give `dataset`, or leave it out",
            )
        )
    if dataset is None and recipe.goal is not None and recipe.goal.min_accuracy_retention is not None:
        misfits.append(
            Misfit(
                where="goal", message="accuracy cannot be measured without a data set; give `dataset` or drop the goal"
            )
        )
    return misfits


def _data_misfits(model: ModelInspection, dataset: DatasetInspection | None) -> list[Misfit]:
    if dataset is None:
        return []
    misfits = image_misfits(model.network, dataset)
    if dataset.classes and len(dataset.classes) != model.num_classes:
        misfits.append(
            Misfit(
                where="dataset",
                message=f"it has {len(dataset.classes)} classes, the model has {model.num_classes} outputs; "
                "use the data set the model was trained for",
            )
        )
    return misfits
