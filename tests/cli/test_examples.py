import json
from pathlib import Path

from deft.data.datasets import import_files
from deft.specs import PipelineSpec, job_spec

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_spec_is_valid_once_its_dataset_is_named() -> None:
    body = json.loads((EXAMPLES / "pipeline.json").read_text()) | {"dataset": "ds_1"}
    assert isinstance(job_spec.validate_json(json.dumps(body)), PipelineSpec)


def test_the_pairs_are_accepted(tmp_path: Path) -> None:
    summary = import_files([EXAMPLES / "pairs.jsonl"], tmp_path / "dataset")
    assert (summary["rows"], summary["rejected"]) == (3, 0)
