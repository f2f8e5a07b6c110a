"""The report of a job whose files were proven."""

from __future__ import annotations

from modelpress.engine.checkpoints.job import Figures
from modelpress.engine.events import Tracker
from modelpress.engine.network import Network
from modelpress.engine.proof_request import Verified
from modelpress.engine.ratios import compare, compare_file
from modelpress.spec.report import ArtifactProof, Provenance, Report, gives_network_outputs

_NOTABLE_LOSS = 0.01  # of top-1 accuracy


def final_report(
    network: Network, figures: Figures, verified: Verified, provenance: Provenance, tracker: Tracker
) -> Report:
    """What is written to report.json: the figures of original, steps and files, their ratios, and all warnings.

    What the ratios give reason to warn of is told through `tracker` as well.
    """
    final = verified.measurement
    baseline = figures.baseline.model_copy(update={"latencies": verified.original_latencies})
    ratios = compare(baseline, final)
    proofs = tuple(
        proof.model_copy(update={"ratios": compare_file(baseline, final, proof)}) for proof in verified.proofs
    )
    for proof in proofs[1:]:
        _warn_of_loss(proof, proofs[0], tracker)
    if ratios.stored_bytes < 1:
        tracker.warn(
            f"the smallest file is {1 / ratios.stored_bytes:.3f} times the original's size: this recipe, with "
            "these artifacts, does not make the model smaller"
        )
    return Report(
        network=network.description.summary(),
        baseline=baseline,
        stages=figures.stages,
        final=final,
        ratios=ratios,
        proofs=proofs,
        warnings=tuple(tracker.warnings),
        provenance=provenance,
    )


def _warn_of_loss(proof: ArtifactProof, first: ArtifactProof, tracker: Tracker) -> None:
    """Say so when an 8-bit file does worse than the network that it was made of."""
    if proof.accuracy is None or first.accuracy is None or gives_network_outputs(proof.kind):
        return
    loss = first.accuracy.top1 - proof.accuracy.top1
    if loss > _NOTABLE_LOSS:
        tracker.warn(
            f"{proof.file} is right on {proof.accuracy.top1:.2%} of the held-out images where {first.file} is on "
            f"{first.accuracy.top1:.2%}: computing in 8 bits costs that; raise `calibration_images`, or train with "
            "a step `quantize` of 8 bits first"
        )
