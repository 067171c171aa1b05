#!/bin/bash
# SLURM: two nodes of eight GPUs, one process per GPU. Submit from a clone of the project:
#   sbatch examples/clusters/slurm.sh
# If one time limit is too short, submit the job several times; each waits for the previous one:
#   for i in 1 2 3; do sbatch --dependency=singleton examples/clusters/slurm.sh; done
#SBATCH --job-name=jaxpose
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

DATA=${DATA:-$HOME/jaxpose/data} # prepared data sets, readable on every node
RUN=${RUN:-$HOME/jaxpose/runs/mpii} # on storage that all nodes share, or gs://BUCKET/runs/mpii

# shellcheck source=/dev/null
source .venv/bin/activate
# JAX warns that proxies can keep the processes from finding each other.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY

# Use --gpus-per-node, not --gpus-per-task: JAX assigns GPU i of a node to task i, so every task has
# to see all GPUs of its node.
# Repeat --cpus-per-task: since Slurm 22.05 srun does not inherit it from sbatch.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 python -u launch.py \
    --config=configs/mpii.py \
    --config.data_dir="$DATA" \
    --config.batch_size=256 \
    --config.optimizer.learning_rate=4e-3 \
    --config.optimizer.warmup_epochs=5.0 \
    --config.dtype=bfloat16 \
    --config.workers=6 \
    --workdir="$RUN"
