#!/usr/bin/env bash
# All that one NVIDIA GPU is asked for in less than ten minutes: python -m benchmarks.gpu, with a log.
#
#   scripts/gpu_bench.sh [--tiny] [OPTIONS OF benchmarks.gpu]
#
#   --tiny  tries everything on tiny networks, on a CPU too
#
# PYTHON must be one of an environment with requirements.txt and jax[cuda13]==0.10.2; torch is wanted for PEERS only.
#
# Environment: PYTHON (.venv/bin/python), OUT (the folder for gpu.json and gpu.log; benchmarks/results), LIMIT (570 seconds,
# after which the rows so far are kept), PEERS (the folder with the PyTorch references, docs/running/benchmarks.md; peers; left
# out, with a sentence, where it or a PyTorch with CUDA is absent), CUDA_VISIBLE_DEVICES (0).
#
# UNTESTED on a GPU: none was available. `--tiny` was tried on a CPU.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-benchmarks/results}
LIMIT=${LIMIT:-570}
PEERS=${PEERS:-peers}
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
export XLA_PYTHON_CLIENT_PREALLOCATE=false # PyTorch needs memory beside JAX

options=(--pairs 5)
cuda='import sys, torch; sys.exit(not torch.cuda.is_available())'
if [[ " $* " == *" --tiny "* ]]; then
  options=(--pairs 1)
  cuda='import torch'
  export JAX_DISABLE_MOST_OPTIMIZATIONS=1 # they would take most of a trial's time
fi
if [[ ! -d $PEERS ]]; then
  echo "PyTorch is left out: PEERS '$PEERS' is not a folder."
elif ! "$PYTHON" -c "$cuda" 2>/dev/null; then
  echo "PyTorch is left out: $PYTHON has no torch that can use this machine's GPU."
else
  options+=(--peers "$PEERS")
fi

mkdir -p "$OUT"
code=0
timeout "$LIMIT" "$PYTHON" -u -m benchmarks.gpu "${options[@]}" --out "$OUT/gpu.json" "$@" 2>&1 | tee "$OUT/gpu.log" || code=$?
if ((code == 124)); then echo "stopped after $LIMIT seconds: $OUT/gpu.json has the rows so far." >&2; fi
exit "$code"
