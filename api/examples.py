"""The examples in the API's documentation. Tests hold them true: requests are accepted, answers fit their schema."""

from __future__ import annotations

from datetime import UTC, datetime

from modelpress.spec.architecture import ARCHITECTURES, ArchitectureRef
from modelpress.spec.cost import Duration, JobEstimate, StepEstimate
from modelpress.spec.event import Progress, StageDone
from modelpress.spec.inspection import (
    DatasetInspection,
    Estimate,
    LayerCall,
    LayerInspection,
    LeftAlone,
    ModelInspection,
    TypeFigures,
)
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind, JobSpec
from modelpress.spec.method import METHODS
from modelpress.spec.network import NetworkSummary, Preprocessing
from modelpress.spec.recipes import ready_recipe
from modelpress.spec.report import (
    Accuracy,
    Agreement,
    ArtifactProof,
    FileRatios,
    Latency,
    LayerChange,
    LayerFigures,
    Measurement,
    Provenance,
    Ratios,
    Report,
    Stage,
    TrainingSummary,
)
from modelpress.spec.resources import Artifact, Attempt, Dataset, Job, JobCheck, JobEvent, Model, Page
from modelpress.spec.state import JobState, UploadState
from modelpress.spec.waiting import Waiting, WaitingReason

MODEL_ID = "mdl_0019f3c0a1b25e8d03c4b7a96f12"
STUDENT_ID = "mdl_0019f3c0a8c95e8d03c4b7a96f12"
DATASET_ID = "dts_0019f3c0b7d45e8d03c4b7a96f12"
JOB_ID = "job_0019f3c0c9f65e8d03c4b7a96f12"
ARTIFACT_ID = "art_0019f3c0db185e8d03c4b7a96f12"

_MODEL_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_DATASET_SHA256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
_ARTIFACT_SHA256 = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"

_STATISTICS = Preprocessing(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SNN = ArchitectureRef(architecture="snn_1k", arguments={"num_classes": 10})
_NETWORK = NetworkSummary(architecture=_SNN, input_shape=(3, 32, 32), preprocessing=_STATISTICS, classes=_CLASSES)

_NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
_LATER = datetime(2026, 1, 31, 12, 3, 20, tzinfo=UTC)

MODEL = Model(
    id=MODEL_ID,
    name="shallow student",
    state=UploadState.READY,
    size=1_655_400,
    sha256=_MODEL_SHA256,
    created_at=_NOON,
    format="safetensors",
    architecture=_SNN,
    preprocessing=_STATISTICS,
    inspection=ModelInspection(
        network=_NETWORK,
        format="safetensors",
        parameters=413_882,
        macs=1_002_800,
        num_classes=10,
        fp32_bytes=1_655_400,
        layers=(
            LayerInspection(
                name="features.0",
                type="Conv2d",
                weight_shape=(6, 3, 5, 5),
                parameters=456,
                macs=352_800,
                calls=(LayerCall(input_size=(32, 32), output_size=(28, 28)),),
                prunable=True,
                full_rank=15,
            ),
            LayerInspection(
                name="classifier.0",
                type="Linear",
                weight_shape=(1000, 400),
                parameters=401_000,
                macs=400_000,
                calls=(LayerCall(input_size=(), output_size=()),),
                prunable=True,
                full_rank=400,
            ),
        ),
        layer_types=(
            TypeFigures(type="Conv2d", layers=2, parameters=2_872, macs=592_800),
            TypeFigures(type="ReLU", layers=3, parameters=0, macs=0),
            TypeFigures(type="MaxPool2d", layers=2, parameters=0, macs=0),
            TypeFigures(type="Linear", layers=2, parameters=411_010, macs=410_000),
        ),
        estimates=(
            Estimate(steps=({"kind": "prune", "sparsity": 0.75},), stored_bytes=361_764, share=0.2185),
            Estimate(
                steps=({"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.5}},),
                stored_bytes=310_312,
                share=0.1875,
                left_alone=(LeftAlone(reason="its channels are the network's outputs", layers=("classifier.2",)),),
            ),
        ),
    ),
)
"""Layers and estimates are shortened to two."""

UPLOADED_MODEL = MODEL.model_copy(update={"state": UploadState.INSPECTING, "inspection": None})

DATASET = Dataset(
    id=DATASET_ID,
    name="CIFAR-10",
    state=UploadState.READY,
    size=186_214_912,
    sha256=_DATASET_SHA256,
    created_at=_NOON,
    inspection=DatasetInspection(
        format="npz",
        classes=_CLASSES,
        train_examples=50_000,
        heldout_examples=10_000,
        image_shape=(3, 32, 32),
        statistics=_STATISTICS,
    ),
)

UPLOADED_DATASET = DATASET.model_copy(update={"state": UploadState.INSPECTING, "inspection": None})

SPECS: dict[str, JobSpec] = {
    kind: JobSpec.model_validate(
        {"name": f"{kind} alone", "model": MODEL_ID, "dataset": DATASET_ID, "steps": [method.example]}
    )
    for kind, method in METHODS.items()
} | {
    "distill, then prune": JobSpec.model_validate(
        {
            "name": "the paper's combination",
            "model": MODEL_ID,
            "dataset": DATASET_ID,
            "seed": 0,
            "steps": [METHODS["distill"].example, METHODS["prune"].example],
            "goal": {"min_accuracy_retention": 0.96},
        }
    ),
    "distill into an uploaded model": JobSpec.model_validate(
        {
            "model": MODEL_ID,
            "dataset": DATASET_ID,
            "steps": [
                {
                    "kind": "distill",
                    "student": {"kind": "uploaded", "model": STUDENT_ID},
                    "training": {"epochs": 10, "learning_rate": 0.01},
                }
            ],
        }
    ),
    "prune without data": JobSpec.model_validate(
        {"model": MODEL_ID, "steps": [{"kind": "prune", "sparsity": 0.5}], "artifacts": ["compact"]}
    ),
}

_PRUNE = SPECS["prune"]
_LATENCIES = (
    Latency(runtime="pytorch", threads=1, batch=1, p50_ms=0.34, p90_ms=0.39),
    Latency(runtime="onnxruntime", threads=1, batch=1, p50_ms=0.21, p90_ms=0.24),
    Latency(runtime="pytorch", threads=2, batch=32, p50_ms=4.1, p90_ms=4.4),
    Latency(runtime="onnxruntime", threads=2, batch=32, p50_ms=2.6, p90_ms=2.7),
)
_LAYER = LayerFigures(
    name="classifier.0",
    type="Linear",
    weight_shape=(1000, 400),
    parameters=401_000,
    sparsity=0.0,
    macs=400_000,
    time_share=0.31,
)
_BASELINE = Measurement(
    measured_on="file",
    parameters=413_882,
    nonzero_parameters=413_882,
    macs=1_002_800,
    stored_bytes={"safetensors": 1_655_400, "onnx": 1_657_311},
    accuracy=Accuracy(top1=0.7696, top5=0.9811, loss=0.7012, examples=10_000),
    latencies=_LATENCIES,
    layers=(_LAYER,),
    peak_memory_bytes=301_989_888,
)
_STAGE = Measurement(
    measured_on="memory",
    parameters=413_882,
    nonzero_parameters=105_014,
    macs=1_002_800,
    accuracy=Accuracy(top1=0.7631, top5=0.9804, loss=0.7122, examples=10_000),
    latencies=_LATENCIES[:1],
    layers=(_LAYER.model_copy(update={"sparsity": 0.762}),),
)
_FINAL = _STAGE.model_copy(
    update={
        "measured_on": "file",
        "stored_bytes": {"compact": 429_310, "safetensors": 1_655_400, "onnx": 1_657_311},
        "latencies": _LATENCIES,
        "peak_memory_bytes": 301_989_888,
    }
)
_RATIOS = Ratios(
    stored_bytes=3.856,
    parameters=1.0,
    nonzero_parameters=3.941,
    macs=1.0,
    latency=1.0,
    accuracy_retention=0.9916,
)

REPORT = Report(
    network=_NETWORK,
    baseline=_BASELINE,
    stages=(
        Stage(
            index=0,
            kind="prune",
            seconds=93.4,
            measurement=_STAGE,
            layers=(
                LayerChange(
                    name="classifier.0", parameters_before=401_000, parameters_after=401_000, nonzero_after=96_412
                ),
            ),
            training=TrainingSummary(
                epochs=10,
                steps=3910,
                images_per_second=5353.0,
                precision="fp32",
                channels_last=True,
                device="cpu",
                final_loss=0.6101,
            ),
        ),
    ),
    final=_FINAL,
    ratios=_RATIOS,
    proofs=(
        ArtifactProof(
            kind="compact",
            file="model.mpz",
            bytes=429_310,
            sha256=_ARTIFACT_SHA256,
            largest_difference=0.0,
            tolerance=1e-5,
            accuracy=_STAGE.accuracy,
            agreement=Agreement(top1=0.981, kl=0.0113, examples=10_000),
            ratios=FileRatios(stored_bytes=3.856, latency=1.0, accuracy_retention=0.9916),
        ),
    ),
    provenance=Provenance(
        modelpress_version="0.1.0",
        model_sha256=_MODEL_SHA256,
        dataset_sha256=_DATASET_SHA256,
        recipe=_PRUNE,
        versions={"python": "3.11.2", "torch": "2.13.0"},
        machine={"cores": 2},
        started_at="2026-01-31T12:00:00Z",
        seconds=200.0,
    ),
)

_ESTIMATE = JobEstimate(
    cpu_memory_bytes=1_180_000_000,
    process_bytes=480_000_000,
    cuda_memory_bytes=700_000_000,
    gpu_memory_bytes=390_000_000,
    step=0,
    steps=(
        StepEstimate(
            step=0,
            kind="prune",
            batch_size=128,
            fixed_bytes=160_000_000,
            image_bytes=2_820_000,
            macs=598_000_000_000_000,
        ),
    ),
    macs=614_000_000_000_000,
    durations=(Duration(device="cuda", seconds=144.0, rough=True),),
)

QUEUED_JOB = Job(
    id=JOB_ID,
    name=_PRUNE.name,
    state=JobState.QUEUED,
    spec=_PRUNE,
    estimate=_ESTIMATE,
    queue_position=1,
    expected_start=_LATER,
    waiting=Waiting(reason=WaitingReason.TURN, message="it is taken when its turn comes"),
    attempt=0,
    created_at=_NOON,
)

RUNNING_JOB = QUEUED_JOB.model_copy(
    update={
        "state": JobState.RUNNING,
        "queue_position": None,
        "expected_start": None,
        "waiting": None,
        "attempt": 1,
        "attempts": (Attempt(number=1, worker="worker-1", started_at=_NOON, finished_at=None, outcome=None),),
        "started_at": _NOON,
        "progress": Progress(
            stage="step",
            step=0,
            steps=1,
            step_kind="prune",
            fraction=0.4,
            eta_seconds=80.0,
            epoch=4,
            epochs=10,
            metrics={"loss": 0.81, "sparsity": 0.62},
        ),
    }
)

FINISHED_JOB = RUNNING_JOB.model_copy(
    update={
        "state": JobState.SUCCEEDED,
        "attempts": (
            Attempt(
                number=1,
                worker="worker-1",
                started_at=_NOON,
                finished_at=_LATER,
                outcome="succeeded",
                seconds=(_LATER - _NOON).total_seconds(),
            ),
        ),
        "progress": Progress(stage="done", steps=1, fraction=1.0, eta_seconds=0.0),
        "ratios": _RATIOS,
        "finished_at": _LATER,
    }
)

CANCELLING_JOB = RUNNING_JOB.model_copy(update={"state": JobState.CANCELLING})

JOB_CHECK = JobCheck(spec=_PRUNE, estimate=_ESTIMATE)

EVENT = JobEvent(
    id=3,
    attempt=1,
    created_at=_LATER,
    event=StageDone(stage="step", step=0, step_kind="prune", measurement=_STAGE),
)

ARTIFACT = Artifact(
    id=ARTIFACT_ID,
    job=JOB_ID,
    kind="compact",
    filename="model.mpz",
    size=429_310,
    sha256=_ARTIFACT_SHA256,
    content_type=ARTIFACT_FILES[ArtifactKind.COMPACT].content_type,
    created_at=_LATER,
)

MODELS = Page[Model](items=[MODEL])
DATASETS = Page[Dataset](items=[DATASET])
JOBS = Page[Job](items=[FINISHED_JOB.model_copy(update={"attempts": ()})], next=JOB_ID)
ARTIFACTS = [ARTIFACT]
ALL_METHODS = [METHODS["prune"]]
ALL_RECIPES = [ready_recipe("slimnets")]
ALL_ARCHITECTURES = [ARCHITECTURES["vgg19_bn_cifar"], ARCHITECTURES["resnet18"]]
