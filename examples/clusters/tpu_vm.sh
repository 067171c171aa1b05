#!/bin/bash
# Cloud TPU v5e: a slice of several hosts, one process per host. Run it where gcloud is set up:
#   ZONE=us-west4-a SOURCE=https://github.com/OWNER/jaxpose BUCKET=gs://mine bash tpu_vm.sh
# The prepared data sets are in $BUCKET/data, the run is in $BUCKET/runs. Later TPUs need another
# API: see docs/clusters.md.
set -euo pipefail
: "${ZONE:?the zone}" "${SOURCE:?where to clone the project from}" "${BUCKET:?gs://...}"
NAME=${NAME:-jaxpose}
TYPE=${TYPE:-v5litepod-16}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}
RUN=${RUN:-$BUCKET/runs/mpii}
PYTHON=3.12 # the hosts run Ubuntu 22.04 with Python 3.10; JAX 0.11 needs 3.12
PORT=8476

tpu() { gcloud compute tpus tpu-vm "$@" --zone="$ZONE"; }
everywhere() { tpu ssh "$NAME" --worker=all --command="$1"; }

# A request that waits for capacity, as Cloud TPU's documentation advises; deleting it ends the slice.
request() { gcloud compute tpus queued-resources "$@" --zone="$ZONE"; }
request describe "$NAME" >/dev/null 2>&1 ||
    request create "$NAME" --node-id="$NAME" --accelerator-type="$TYPE" --runtime-version="$VERSION"
until tpu describe "$NAME" --format='value(state)' 2>/dev/null | grep -qx READY; do
    sleep 30
done
everywhere "git clone '$SOURCE' jaxpose; cd jaxpose && python3 -m pip install -q --user uv &&
    python3 -m uv venv -q --allow-existing --python $PYTHON .venv &&
    python3 -m uv pip install -q --python .venv/bin/python '.[train,cloud,tpu]' &&
    gcloud storage cp -r '$BUCKET/data' ."

read -r -a hosts < <(tpu describe "$NAME" --format=json | python3 -c '
import json, sys
print(*(host["ipAddress"] for host in json.load(sys.stdin)["networkEndpoints"]))')

# launch.py looks for the host's number in the environment; on TPU VMs it is in the metadata.
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
