"""Does a step fit a data set in which no image has a label?"""

from __future__ import annotations

from modelpress.spec.check.misfit import Misfit
from modelpress.spec.inspection import DatasetInspection
from modelpress.spec.steps import Distill, Prune, PruneChannels, Step
from modelpress.spec.training import Recovery


def label_misfits(step: Step, dataset: DatasetInspection, where: str) -> list[Misfit]:
    """What keeps the step from a data set without any label: it can only learn from what the original says."""
    if dataset.unlabelled_examples < dataset.train_examples:
        return []
    misfits = []
    if isinstance(step, Prune | PruneChannels) and step.takes_gradients:
        other = "magnitude" if isinstance(step, Prune) else "l2"
        message = (
            f"the criterion `{step.criterion}` takes gradients of the loss of labelled images, and no image has a "
            f"label: use `{other}`, or label some images"
        )
        misfits.append(Misfit(where=f"{where}.criterion", message=message))
    if isinstance(step.training, Recovery) and step.training.teacher is None:
        message = "no image of the data set has a label to train by: use `teacher: original`, or label some images"
        misfits.append(Misfit(where=f"{where}.training.teacher", message=message))
    elif (alpha := _alpha_of_a_teacher_without_a_say(step)) is not None:
        message = "no image of the data set has a label, and at 0 the original has no say either: raise it (0.9, say)"
        misfits.append(Misfit(where=f"{where}.{alpha}", message=message))
    return misfits


def _alpha_of_a_teacher_without_a_say(step: Step) -> str | None:
    """The field by which a step with a teacher learns by the labels alone; None where it does not."""
    if isinstance(step, Distill):
        if step.asks_teacher:
            return None
        return "alpha" if step.loss is None else "loss.alpha"
    return "training.alpha" if isinstance(step.training, Recovery) and step.training.alpha == 0 else None
