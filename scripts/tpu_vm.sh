#!/usr/bin/env bash
# Cloud TPU VMs: create, install, run on all workers, and go on after a preemption.
#
#   scripts/tpu_vm.sh [--dry-run] create|install|run|supervise|stop|delete [-- ARGUMENTS OF launch.py]
#
#   create     makes the machine (a spot one with SPOT=1)
#   install    brings code and packages to every worker, and mounts what MOUNT says
#   run        runs launch.py on every worker and ends with its exit code
#   supervise  create, install and run; again after a preemption, until a run ends with 0, a mistake of the user's (2), or has
#              failed FAILURES times in a row
#   stop       SIGTERM to launch.py on every worker: the run saves and ends with 75
#   delete     deletes the machine
#   --dry-run  prints the gcloud commands and runs none
#
# Environment: NAME, ZONE, TYPE (v5litepod-16), VERSION (v2-alpha-tpuv5-lite), SPOT (0), REPOSITORY (URL that git can clone),
# COMMIT (main), MOUNT (a command that every worker runs to see the shared disk, for example
# 'sudo mkdir -p /mnt/data && sudo mount 10.0.0.2:/share /mnt/data'), SECONDS_BETWEEN (60),
# FAILURES (5).
#
# UNTESTED on a TPU: none was available. The commands that it prints and what it does after each exit code are tested with a
# stand-in for gcloud (tests/unit/test_tpu_vm.py).
set -euo pipefail

NAME=${NAME:-kdpose}
ZONE=${ZONE:-us-west4-a}
TYPE=${TYPE:-v5litepod-16}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}
SPOT=${SPOT:-0}
REPOSITORY=${REPOSITORY:-}
COMMIT=${COMMIT:-main}
MOUNT=${MOUNT:-true}
SECONDS_BETWEEN=${SECONDS_BETWEEN:-60}
FAILURES=${FAILURES:-5}
DRY_RUN=0
PREEMPTED=75 # launch.py: stopped by SIGTERM, all saved
MISTAKE=2    # launch.py: a mistake of the user's, which would come again

tpu() { # tpu WORD... : a command of gcloud on this machine, or its text
  local command=(gcloud compute tpus tpu-vm "$@" --zone "$ZONE")
  if ((DRY_RUN)); then
    printf '%q ' "${command[@]}"
    printf '\n'
  else
    "${command[@]}"
  fi
}

on_all_workers() { tpu ssh "$NAME" --worker=all --command "$1"; }

create() {
  local spot=()
  if ((SPOT)); then spot=(--spot); fi
  tpu create "$NAME" --accelerator-type "$TYPE" --version "$VERSION" "${spot[@]}"
}

require_repository() {
  if [[ -z $REPOSITORY ]]; then
    echo "error: REPOSITORY is empty: set it to a URL that the workers can clone." >&2
    exit "$MISTAKE"
  fi
}

install() { # changes nothing where it was done before
  require_repository
  # The images bring Python 3.10, which is too old.
  on_all_workers "set -e; $MOUNT; curl -LsSf https://astral.sh/uv/install.sh | sh
test -d kdpose_jax || git clone $(printf %q "$REPOSITORY") kdpose_jax
cd kdpose_jax && git fetch --quiet && git checkout --quiet $(printf %q "$COMMIT")
~/.local/bin/uv venv --quiet --allow-existing --python 3.11 .venv
~/.local/bin/uv pip install --quiet -p .venv -r requirements.txt -r requirements-tpu.txt"
}

run() { on_all_workers "cd kdpose_jax && exec .venv/bin/python launch.py --distributed=on $(printf '%q ' "$@")--config.platform=tpu"; }

state() { gcloud compute tpus tpu-vm describe "$NAME" --zone "$ZONE" --format 'value(state)' 2>/dev/null || echo ABSENT; }

# A machine that was taken away comes back as another one with an empty disk; what was saved lies on the shared disk.
supervise() {
  if ((DRY_RUN)); then
    create
    install
    run "$@"
    return
  fi
  require_repository
  local code=1 failures=0
  while ((failures < FAILURES)); do
    case $(state) in
      READY)
        code=0
        { install && run "$@"; } || code=$?
        if ((code == 0 || code == MISTAKE)); then return "$code"; fi
        if ((code == PREEMPTED)); then failures=0; else failures=$((failures + 1)); fi
        ;;
      ABSENT) create || true ;;
      PREEMPTED | TERMINATED | STOPPED)
        tpu delete "$NAME" --quiet || true
        failures=0
        continue
        ;;
      *) ;; # it is being made or taken away
    esac
    sleep "$SECONDS_BETWEEN"
  done
  echo "error: $failures runs in a row failed: see the last one's output, and give the command again." >&2
  return "$code"
}

main() {
  if [[ ${1:-} == --dry-run ]]; then
    DRY_RUN=1
    shift
  fi
  local action=${1:-}
  shift || true
  if [[ ${1:-} == -- ]]; then shift; fi
  case $action in
    create | install | run | supervise) "$action" "$@" ;;
    stop) on_all_workers "pkill -TERM -f '[l]aunch.py' || true" ;;
    delete) tpu delete "$NAME" --quiet ;;
    *)
      sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
      return "$MISTAKE"
      ;;
  esac
}

main "$@"
