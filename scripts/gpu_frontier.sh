#!/usr/bin/env bash
# The study `frontier` on one NVIDIA GPU, in less than ten minutes: larger networks, bfloat16, one seed.
#
#   scripts/gpu_frontier.sh [--tiny]
#
#   --tiny  tries everything on tiny networks and a hundredth of an epoch, on a CPU too
#
# Environment: PYTHON (.venv/bin/python, of an environment with requirements.txt and jax[cuda13]==0.10.2), RECORDS (records of
# recorded motion; left out, the motion is generated, and the table says so), EPOCHS (1), OUT (the study's folder;
# runs/studies/frontier_gpu), LIMIT (570 seconds, after which the study saves and ends; the same command goes on).
#
# UNTESTED on a GPU: none was available. `--tiny` was tried on a CPU.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-.venv/bin/python}
EPOCHS=${EPOCHS:-1}
OUT=${OUT:-runs/studies/frontier_gpu}
LIMIT=${LIMIT:-570}
DATA=gpu

if [[ ${1:-} == --tiny ]]; then
  DATA=demo
  EPOCHS=0.01
  OUT=${OUT}_tiny
fi
study=(configs/studies/frontier.py:"$DATA,epochs=$EPOCHS" --seeds 0 --out "$OUT")
if [[ -n ${RECORDS:-} ]]; then
  study+=(--config.data.records="$RECORDS")
elif [[ $DATA == gpu ]]; then
  "$PYTHON" -m data_prep.convert synthetic --out "$OUT/records"
  study+=(--config.data.records="$OUT/records")
fi
code=0
timeout --signal=TERM --kill-after=60 "$LIMIT" "$PYTHON" -u -m kdpose_jax.study.runner "${study[@]}" || code=$?
if ((code == 75 || code == 124)); then echo "stopped after $LIMIT seconds: the same command goes on." >&2; fi
exit "$code"
