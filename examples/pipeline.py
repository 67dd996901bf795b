"""Upload preference pairs, run the whole pipeline, download what it made. Reads DEFT_URL and DEFT_API_KEY.

python examples/pipeline.py PAIRS MODEL [FOLDER]
"""

import sys
from pathlib import Path

from deft_client import Client, InvalidInput


def main(pairs: str, model: str, folder: str = "pipeline-output") -> int:
    """Run it; return the exit code."""
    out = Path(folder)
    with Client() as client:
        try:
            dataset = client.datasets.upload(pairs)
        except InvalidInput as refused:
            for finding in refused.errors:
                print(finding)
            return 3
        spec = {"kind": "pipeline", "dataset": dataset["id"], "model": model, "selection": {"keep": 0.25}}
        job = client.jobs.create(spec)
        job = client.jobs.wait(job["id"], lambda now: print(now["status"], now["progress"]))
        if job["status"] != "succeeded":
            print(job["failure"])
            return 1
        made = {child["name"]: client.jobs.get(child["id"])["artifact"]["id"] for child in job["children"]}
        client.subsets.download(made["select:lowest"], out / "subset")
        client.adapters.download(made["train:deft"], out / "adapter")
        print(client.evaluations.get(job["artifact"]["id"])["comparison"]["sentence"])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
