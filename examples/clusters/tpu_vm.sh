#!/bin/bash
# Cloud TPU: a slice of several hosts, one process a host. Run it where gcloud is set up:
#   ZONE=us-west4-a SOURCE=https://github.com/OWNER/jaxpose BUCKET=gs://mine bash tpu_vm.sh
# The prepared data sets lie in $BUCKET/data; hosts share the run's folder through a mount of the
# bucket (gcsfuse) or an NFS: set RUN to it.
set -euo pipefail
: "${ZONE:?the zone}" "${SOURCE:?where to clone the project from}" "${BUCKET:?gs://...}"
NAME=${NAME:-jaxpose}
TYPE=${TYPE:-v5litepod-16}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}
RUN=${RUN:-/mnt/runs/mpii}
PORT=8476

tpu() { gcloud compute tpus tpu-vm "$@" --zone="$ZONE"; }
everywhere() { tpu ssh "$NAME" --worker=all --command="$1"; }

tpu describe "$NAME" >/dev/null 2>&1 ||
    tpu create "$NAME" --accelerator-type="$TYPE" --version="$VERSION"
everywhere "git clone '$SOURCE' jaxpose; cd jaxpose && python3 -m venv .venv &&
    .venv/bin/pip install -q '.[train,tpu]' && gcloud storage cp -r '$BUCKET/data' ."

read -r -a hosts < <(tpu describe "$NAME" --format=json | python3 -c '
import json, sys
print(*(host["ipAddress"] for host in json.load(sys.stdin)["networkEndpoints"]))')

# A host's number stands in the metadata, not in its environment, where launch.py would find it.
everywhere "number=\$(curl -sH 'Metadata-Flavor: Google' \
    http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number)
    cd jaxpose && .venv/bin/python -u launch.py \
    --coordinator=${hosts[0]}:$PORT --num_processes=${#hosts[@]} --process_id=\$number \
    --config=configs/mpii.py \
    --config.data_dir=data \
    --config.batch_size=256 \
    --config.optimizer.learning_rate=4e-3 \
    --config.optimizer.warmup_epochs=5.0 \
    --config.dtype=bfloat16 \
    --config.workers=32 \
    --workdir='$RUN'"
