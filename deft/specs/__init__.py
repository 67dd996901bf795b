"""What a job asks for: one pydantic class that is the request body, the row's JSON and the argument of the method.

Torch-free. Specs are frozen, refuse unknown fields and take no value of another JSON type. A field that names another
thing holds an id: of an artifact (`ds_`, `sc_`, `sub_`, `cal_`, `ad_`, `tm_`, `rm_`), or of a job (`job_`) whose output
will be that artifact; `references` lists them. Formula numbers M1..M12 are those of `docs/method.md`.
"""

from deft.specs.base import Fraction, Id, Quantisation, Seed, Spec
from deft.specs.data import AspectWeights, End, Gate, Quota, Rows, Selection, SplitFractions, SplitName, TokenOptions
from deft.specs.evaluation import ALL_METRICS, ApartFrom, EvaluationOptions, Metric, System
from deft.specs.jobs import (
    DEFAULT_ARMS,
    ArmName,
    CheckDataSpec,
    EvaluateSpec,
    JobSpec,
    MeasureOmegaSpec,
    OperationSpec,
    PipelineSpec,
    ScoreSpec,
    SelectSpec,
    TrainSpec,
    job_spec,
)
from deft.specs.references import (
    ID_PREFIX,
    OUTPUT_KIND,
    ArtifactKind,
    ModelReference,
    Reference,
    model_references,
    output_kind,
    references,
)
from deft.specs.resolved import spec_hash, spec_json
from deft.specs.rewards import RewardOptimisation, TrainRewardModelSpec
from deft.specs.training import (
    DpoMethod,
    Drift,
    Limit,
    Lora,
    Method,
    ModuleName,
    Optimisation,
    ProMethod,
    RewardTerm,
    SftMethod,
    SftStage,
    Tracker,
)

__all__ = [
    "ALL_METRICS",
    "DEFAULT_ARMS",
    "ID_PREFIX",
    "OUTPUT_KIND",
    "ApartFrom",
    "ArmName",
    "ArtifactKind",
    "AspectWeights",
    "CheckDataSpec",
    "DpoMethod",
    "Drift",
    "End",
    "EvaluateSpec",
    "EvaluationOptions",
    "Fraction",
    "Gate",
    "Id",
    "JobSpec",
    "Limit",
    "Lora",
    "MeasureOmegaSpec",
    "Method",
    "Metric",
    "ModelReference",
    "ModuleName",
    "OperationSpec",
    "Optimisation",
    "PipelineSpec",
    "ProMethod",
    "Quantisation",
    "Quota",
    "Reference",
    "RewardOptimisation",
    "RewardTerm",
    "Rows",
    "ScoreSpec",
    "Seed",
    "SelectSpec",
    "Selection",
    "SftMethod",
    "SftStage",
    "Spec",
    "SplitFractions",
    "SplitName",
    "System",
    "TokenOptions",
    "Tracker",
    "TrainRewardModelSpec",
    "TrainSpec",
    "job_spec",
    "model_references",
    "output_kind",
    "references",
    "spec_hash",
    "spec_json",
]
