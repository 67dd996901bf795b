#!/usr/bin/env bash
# The same by curl: upload, one pipeline job, wait, the comparison. Needs DEFT_URL, DEFT_API_KEY and jq.
set -euo pipefail
pairs=${1:?usage: examples/curl.sh PAIRS.jsonl MODEL} model=${2:?a model, see: deft models ls}

api() { curl --silent --show-error --fail-with-body --header "Authorization: Bearer $DEFT_API_KEY" "$@"; }

dataset=$(api --upload-file "$pairs" "$DEFT_URL/v1/datasets?filename=$(basename "$pairs")" | jq --raw-output .id)
echo "dataset $dataset"
job=$(jq --null-input --arg dataset "$dataset" --arg model "$model" \
  '{kind: "pipeline", dataset: $dataset, model: $model, selection: {keep: 0.25}}' |
  api --json @- --header "Idempotency-Key: $(date +%s)-$$" "$DEFT_URL/v1/jobs" | jq --raw-output .id)
echo "job $job"
until state=$(api "$DEFT_URL/v1/jobs/$job") && jq --exit-status '.status | IN("succeeded", "failed", "cancelled")' <<<"$state" >/dev/null; do
  jq --raw-output '[.status, .progress.done, .progress.total] | join(" ")' <<<"$state"
  sleep 10
done
jq '{status, failure}' <<<"$state"
api "$DEFT_URL$(jq --raw-output .artifact.url <<<"$state")" | jq --raw-output .comparison.sentence
