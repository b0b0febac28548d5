#!/bin/bash
# Train by a recipe on one Cloud TPU host: examples/tpu/train.sh gs://BUCKET/imagenet
# It needs the gcloud command and a project in which the Cloud TPU API is enabled.
set -euo pipefail

data=${1:?the Cloud Storage folder of the TFRecord files}
name=${TPU:-keras-vit}
zone=${ZONE:-us-central1-a}

gcloud compute tpus tpu-vm create "$name" --zone="$zone" --accelerator-type=v5litepod-8 --version=v2-alpha-tpuv5-lite
gcloud compute tpus tpu-vm scp --recurse --zone="$zone" "$(git rev-parse --show-toplevel)" "$name:keras-vit"

# TensorFlow for TPUs is a package of its own, which takes the place of the usual one.
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --command='
    set -e
    python3 -m venv venv
    venv/bin/pip install --quiet "./keras-vit[train]"
    venv/bin/pip uninstall --quiet --yes tensorflow
    venv/bin/pip install --quiet tensorflow-tpu==2.20.0
'
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --command="
    venv/bin/keras-vit train --strategy tpu --recipe deit_s16 --data tfrecords:$data --run-dir runs/deit_s16
"
gcloud compute tpus tpu-vm scp --recurse --zone="$zone" "$name:runs" .
gcloud compute tpus tpu-vm delete "$name" --zone="$zone" --quiet
