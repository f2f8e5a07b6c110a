"""The model card: the report for people, in Markdown, with the lines of code that load each file.

Its blocks of Python run one after the other in the folder of the files. Names that a user chose stand in JSON, where
they cannot be taken for Markdown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from modelpress.spec.figures import NOT_MEASURED, in_bytes, in_counts, in_percent, in_times
from modelpress.spec.job import ARTIFACT_FILES, RUNTIME_NAMES, ArtifactKind
from modelpress.spec.network import NetworkSummary, in_words
from modelpress.spec.report import ArtifactProof, Latency, Measurement, Report

# How each kind of file is loaded and run on `images`; {file} is its name.
_LOADING: dict[ArtifactKind, str] = {
    ArtifactKind.COMPACT: """import modelpress

network = modelpress.load("{file}")
with torch.inference_mode():
    scores = network(images)""",
    ArtifactKind.SAFETENSORS: """import modelpress
from safetensors.torch import load_file

network = modelpress.load("{file}")
with torch.inference_mode():
    scores = network(images)

weights = load_file("{file}")  # the tensors alone, without ModelPress""",
    ArtifactKind.PT2: """graph = torch.export.load("{file}").module()  # only a file whose source you trust
with torch.inference_mode():
    scores = graph(images)""",
    ArtifactKind.ONNX: """import onnxruntime

session = onnxruntime.InferenceSession("{file}")
(scores,) = session.run(["scores"], {{"images": images.numpy()}})""",
    ArtifactKind.ONNX_INT8: """import onnxruntime

session = onnxruntime.InferenceSession("{file}")
(scores,) = session.run(["scores"], {{"images": images.numpy()}})""",
    ArtifactKind.OPENVINO: """import zipfile

import openvino

with zipfile.ZipFile("{file}") as archive:
    graph = openvino.Core().read_model(archive.read("model.xml"), archive.read("model.bin"))
# Without the hint, processors that have bfloat16 compute in it, with other scores.
compiled = openvino.compile_model(graph, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
scores = compiled(images.numpy())["scores"]""",
    ArtifactKind.EXECUTORCH: """from executorch.runtime import Runtime

method = Runtime.get().load_program("{file}").load_method("forward")
(scores,) = method.execute([images])  # one image at a time""",
}


def model_card(report: Report) -> str:
    """The card of a job that came to its end."""
    steps = ", ".join(step.kind for step in report.provenance.recipe.steps)
    sections = [
        f"# Model card: {in_words(report.network.architecture)}",
        f"Compressed by ModelPress {report.provenance.modelpress_version} ({steps}). Every file was reloaded in a "
        "fresh process, compared with the network and measured.",
        "## Figures",
        _figures(report),
        "## Files",
        _files(report),
        "## Use",
        *_use(report),
        "## How it was made",
        _stages(report),
        "The recipe, with every default filled in:",
        _json(report.provenance.recipe.model_dump(mode="json")),
        "## Where it comes from",
        _origins(report),
    ]
    if report.warnings:
        sections += ["## Warnings", "\n".join(f"- {_plain(warning)}" for warning in report.warnings)]
    return "\n\n".join(sections) + "\n"


def _figures(report: Report) -> str:
    before, after, ratios = report.baseline, report.final, report.ratios
    rows = [
        ("parameters", in_counts(before.parameters), in_counts(after.parameters), in_times(ratios.parameters)),
        (
            "parameters that are not zero",
            in_counts(before.nonzero_parameters),
            in_counts(after.nonzero_parameters),
            in_times(ratios.nonzero_parameters),
        ),
        ("multiply-accumulates of an image", in_counts(before.macs), in_counts(after.macs), in_times(ratios.macs)),
        ("smallest file", _size(before), _size(after), in_times(ratios.stored_bytes)),
        ("top-1 accuracy", _top1(before), _top1(after), f"{in_percent(ratios.accuracy_retention, 1)} kept"),
        (
            f"latency of an image, {RUNTIME_NAMES[ratios.latency_runtime]}, one thread",
            _milliseconds(before.latency_in(ratios.latency_runtime)),
            _milliseconds(after.latency_in(ratios.latency_runtime)),
            in_times(ratios.latency),
        ),
    ]
    return _table(("", "original", "result", "ratio"), rows)


def _files(report: Report) -> str:
    headings = ("file", "bytes", "smaller", "top-1", "kept", "agreement", "latency", "faster", "largest difference")
    return _table(headings, [_file(proof, report.final) for proof in report.proofs])


def _file(proof: ArtifactProof, final: Measurement) -> tuple[str, ...]:
    ratios = proof.ratios
    facts = ARTIFACT_FILES[ArtifactKind(proof.kind)]
    return (
        f"`{proof.file}`",
        f"{proof.bytes:,}",
        in_times(None if ratios is None else ratios.stored_bytes),
        in_percent(None if proof.accuracy is None else proof.accuracy.top1),
        in_percent(None if ratios is None else ratios.accuracy_retention, 1),
        in_percent(None if proof.agreement is None else proof.agreement.top1),
        _milliseconds(final.latency_in(facts.runtime, facts.precision)),
        in_times(None if ratios is None else ratios.latency),
        f"{proof.largest_difference:.2g} of {proof.tolerance:.2g}",
    )


def _use(report: Report) -> Iterable[str]:
    network = report.network
    yield _python(_images(network))
    for proof in report.proofs:
        yield f"`{proof.file}`:"
        yield _python(_LOADING[ArtifactKind(proof.kind)].format(file=proof.file))
    if network.classes is not None:
        yield "The outputs are scores of these classes, in this order:"
        yield _json(list(network.classes))


def _images(network: NetworkSummary) -> str:
    channels, height, width = network.input_shape
    lines = [
        "import torch",
        "",
        f"pixels = torch.zeros(1, {channels}, {height}, {width}, dtype=torch.uint8)  # your images, values 0 to 255",
    ]
    if network.preprocessing is None:
        return "\n".join([*lines, "images = pixels / 255"])
    return "\n".join(
        [
            *lines,
            f"mean = torch.tensor({list(network.preprocessing.mean)}).view(1, -1, 1, 1)",
            f"std = torch.tensor({list(network.preprocessing.std)}).view(1, -1, 1, 1)",
            "images = (pixels / 255 - mean) / std",
        ]
    )


def _stages(report: Report) -> str:
    rows = [
        (
            str(number),
            stage.kind if stage.reused_from is None else f"{stage.kind}, done by `{stage.reused_from}`",
            in_counts(stage.measurement.parameters),
            in_counts(stage.measurement.nonzero_parameters),
            in_counts(stage.measurement.macs),
            _top1(stage.measurement),
            f"{stage.seconds:.0f} s",
        )
        for number, stage in enumerate(report.stages, 1)
    ]
    return _table(("", "step", "parameters", "not zero", "MACs", "top-1", "took"), rows)


def _origins(report: Report) -> str:
    origin = report.provenance
    rows = [("original model", origin.model_sha256)]
    for ancestor in origin.lineage:
        rows.append(
            (f"which is artifact `{ancestor.artifact}` of job `{ancestor.job}`, made of", ancestor.model_sha256)
        )
    if origin.dataset_sha256 is not None:
        rows.append(("data set", origin.dataset_sha256))
    rows += [(f"student `{name}`", sha256) for name, sha256 in origin.student_sha256.items()]
    rows += [(f"`{proof.file}`", proof.sha256) for proof in report.proofs]
    facts = {"started_at": origin.started_at, "seconds": round(origin.seconds), "seed": origin.recipe.seed}
    return "\n\n".join(
        [
            _table(("", "SHA-256"), [(_plain(name), f"`{sha256}`") for name, sha256 in rows]),
            _json({**facts, "versions": origin.versions, "machine": origin.machine}),
        ]
    )


def _size(measured: Measurement) -> str:
    return NOT_MEASURED if measured.smallest_bytes is None else in_bytes(measured.smallest_bytes)


def _top1(measured: Measurement) -> str:
    return in_percent(None if measured.accuracy is None else measured.accuracy.top1)


def _milliseconds(latency: Latency | None) -> str:
    return NOT_MEASURED if latency is None else f"{latency.p50_ms:.3g} ms"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _python(code: str) -> str:
    return f"```python\n{code}\n```"


def _json(value: object) -> str:
    # Indented, so that no line can begin with the fence that ends the block.
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"


def _plain(text: str) -> str:
    """Without line breaks, and without what Markdown would take for a link, a cell or HTML."""
    for sign, harmless in (("<", "&lt;"), ("[", "\\["), ("|", "\\|")):
        text = text.replace(sign, harmless)
    return " ".join(text.split())
