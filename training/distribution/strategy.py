"""Where a model is trained: this CPU, one GPU or all of them, several machines, or a TPU."""

import inspect
import os
import threading
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_vit.training.data import ImageData
from keras_vit.training.distribution.cluster import (
    Worker,
    given_worker,
    wait_for_grpc,
    wait_for_workers,
    worker_of_environment,
)
from keras_vit.training.distribution.mirrored import MirroredStrategy, MultiWorkerMirroredStrategy

_KINDS = ("auto", "cpu", "gpu", "mirrored", "multi_worker", "tpu")


def strategy(
    kind: str = "auto",
    *,
    devices: Sequence[str] | None = None,
    workers: Sequence[str] | None = None,
    index: int | None = None,
    tpu: str | None = None,
    zone: str | None = None,
    project: str | None = None,
    timeout: float = 120.0,
) -> tf.distribute.Strategy:
    """Return the `tf.distribute.Strategy` to build, compile and fit a model under.

    ```python
    strategy = training.strategy()
    with strategy.scope():
        model = keras_vit.ViT_S16(classes=10, dtype=training.precision(strategy))
        training.synchronize(model)
        model.compile(...)
    model.fit(...)
    ```

    `training.fit` compiles and synchronizes by itself. A batch is the global one: each replica gets its part of it.

    With Keras' own `fit`, every batch must divide equally among the replicas, and the dataset must know its
    cardinality: otherwise Keras 3.15 ends an epoch with a step without images. With several workers this holds for
    `predict` too, after which they may wait for each other forever. Without `synchronize`, each replica normalizes by
    its own part of the batch, and the moving statistics of batch normalization are the mean over all replicas.

    Call this first in a program, before TensorFlow runs anything: devices and workers can't be added later.

    Args:
        kind: What to train on:

            - "cpu": this machine's CPU.
            - "gpu": one GPU, the first that TensorFlow sees.
            - "mirrored": all GPUs of this machine, or `devices`. Each has a copy of the model and a part of the batch.
            - "multi_worker": all GPUs, or else the CPU, of several processes, usually on several machines. Each runs
              the same program, and the chief, worker 0, writes the files.
            - "tpu": a TPU.
            - "auto": the first of these that is available: several workers (of TF_CONFIG or of a Slurm job step), a TPU
              (TPU_NAME is set), several GPUs, one GPU, the CPU.
        devices: Devices of "mirrored", such as ["GPU:0", "GPU:1"].
        workers: Addresses "host:port" of all processes of "multi_worker", in the same order everywhere. By default they
            are read from TF_CONFIG or from Slurm's variables.
        index: The index of this process in `workers`.
        tpu: The TPU's name, "grpc://host:port", or "local" on a TPU VM. The default is TPU_NAME, or else "local".
        zone: Google Cloud zone of the TPU of that name.
        project: Google Cloud project of the TPU.
        timeout: Seconds within which workers or the TPU must answer.

    Raises:
        ValueError: The kind is unknown, an argument does not belong to it, or a worker's address is invalid.
        RuntimeError: There is no such device, or nothing describes the workers.
        TimeoutError: A worker or the TPU did not answer; the message has its address.
        OSError: This worker can't listen at its address.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind is one of {', '.join(_KINDS)}; received {kind!r}.")
    given = {"devices": devices, "workers": workers, "index": index, "tpu": tpu, "zone": zone, "project": project}
    allowed = {"mirrored": ("devices",), "multi_worker": ("workers", "index"), "tpu": ("tpu", "zone", "project")}
    for name, value in given.items():
        if value is not None and name not in allowed.get(kind, ()):
            owner = next(kind for kind, names in allowed.items() if name in names)
            raise ValueError(f"{name} is of kind={owner!r}; received {name}={value!r} with kind={kind!r}.")
    if kind == "auto":
        kind = _kind_here()
    if kind == "tpu":
        return _tpu(tpu or os.environ.get("TPU_NAME") or "local", zone, project, timeout)
    if kind == "multi_worker":
        return _multi_worker(worker_of_environment() if workers is None else given_worker(workers, index), timeout)
    gpus = tf.config.list_logical_devices("GPU")
    if kind == "cpu":
        # The default strategy is the CPU where there is no GPU, and the only one with which Keras turns XLA on.
        return tf.distribute.OneDeviceStrategy("/cpu:0") if gpus else tf.distribute.get_strategy()
    if not gpus and devices is None:
        raise RuntimeError(f"TensorFlow sees no GPU here, which kind={kind!r} needs; kind='cpu' trains without.")
    return tf.distribute.get_strategy() if kind == "gpu" else MirroredStrategy(devices)


def precision(strategy: tf.distribute.Strategy | None = None) -> str:
    """Return the dtype policy that suits a strategy's devices, as in `ViT_B16(dtype=precision(strategy))`.

    "mixed_bfloat16" on TPUs and on GPUs of compute capability 8 (Ampere) and higher, "mixed_float16" on older ones
    with tensor cores (capability 7, where `training.fit` scales the loss), and "float32" elsewhere. Keras' global
    policy doesn't change. Weights and the optimizer's state are float32 with each of these.

    Args:
        strategy: A strategy of `training.strategy`. The default is the strategy of the current scope.
    """
    strategy = strategy or tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "mixed_bfloat16"
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus or "CPU" in _device_types(strategy):
        return "float32"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    generation = min(device.get("compute_capability", (0, 0))[0] for device in details)
    if generation >= 8:
        return "mixed_bfloat16"
    return "mixed_float16" if generation == 7 else "float32"


def synchronize(model: keras.Model) -> None:
    """Normalize by the statistics of the global batch in every BatchNormalization of a model.

    Otherwise each replica normalizes by its own part of the batch. Under a strategy of `training.strategy` for several
    devices or workers, the moving statistics are then the mean over the replicas, which leaves the differences between
    the replicas' means out of the variance. (TensorFlow's own strategies keep one per replica and save the first.)

    Call this before the model is compiled. On one device it changes nothing but rounding. It does the same as
    `keras.layers.BatchNormalization(synchronized=True)`. A layer that is not part of a composite is saved with this
    setting, and Keras refuses such a file on the JAX backend.

    Args:
        model: Any model.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def training_batches(
    data: ImageData, epoch: int, first: int, last: int, strategy: tf.distribute.Strategy
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Return the steps `first` to `last` of an epoch of `data.train`, for `model.fit` under a strategy.

    Of several workers with a device each, each one reads and augments its own part of every batch alone. (Otherwise
    TensorFlow lets every worker make all batches, and gives it a part of each.)
    """
    workers = _workers(strategy)
    own_parts = "input_context" in inspect.signature(data.train).parameters
    if workers == 1 or workers != strategy.num_replicas_in_sync or not own_parts:
        return by_image(data.train(epoch, first).take(last - first))
    return strategy.distribute_datasets_from_function(
        lambda context: data.train(epoch, first, input_context=context).take(last - first)
    )


def _workers(strategy):
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return strategy.cluster_resolver.cluster_spec().num_tasks("worker")
    return 1


def by_image(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Let each worker get a part of every batch. By default, TensorFlow gives each its own files if it can."""
    options = tf.data.Options()
    if batches.options().experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.AUTO:
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


def shareable(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> tf.data.Dataset:
    """Merge a last batch that is too small for the replicas, so that each replica gets an image of every batch.

    A batch with fewer images than there are replicas is merged with the one before it, and both are divided again.
    Otherwise TensorFlow gives some replicas no image, and its convolutions on CPUs (2.21, oneDNN) then return a wrong
    shape. The other batches must have at least two images for each replica.

    Args:
        batches: Tuples (images, labels) of tensors or of structures of them.
        strategy: Of `training.strategy`.
    """
    replicas = strategy.num_replicas_in_sync
    return by_image(batches if replicas == 1 else _balanced(batches, replicas))


def _balanced(batches, least):
    nothing = keras.tree.map_structure(lambda spec: tf.zeros((0, *spec.shape[1:]), spec.dtype), batches.element_spec)

    def size(batch):
        return tf.shape(keras.tree.flatten(batch)[0])[0]

    def step(held, batch_and_end):
        batch, is_end = batch_and_end
        both = keras.tree.map_structure(lambda *parts: tf.concat(parts, 0), held, batch)
        too_small = (size(batch) < least) & (size(held) > 0) & ~is_end
        cut = tf.where(too_small, size(both) // 2, size(held))
        first, rest = (keras.tree.map_structure(part, both) for part in (lambda x: x[:cut], lambda x: x[cut:]))
        return rest, first

    ended = batches.map(lambda *batch: (batch, False)).concatenate(tf.data.Dataset.from_tensors((nothing, True)))
    balanced = ended.scan(nothing, step).filter(lambda *batch: size(batch) > 0)
    count = batches.cardinality()
    return balanced if count < 0 else balanced.apply(tf.data.experimental.assert_cardinality(count))


def is_chief(model: keras.Model) -> bool:
    """Return whether this process writes the files of a model's training; of several workers, the first one does."""
    return model.distribute_strategy.extended.should_checkpoint


def _kind_here():
    if (worker := worker_of_environment()) and len(worker.workers) > 1:
        return "multi_worker"
    if os.environ.get("TPU_NAME") or tf.config.list_physical_devices("TPU"):
        return "tpu"
    gpus = len(tf.config.list_physical_devices("GPU"))
    return "cpu" if gpus == 0 else "gpu" if gpus == 1 else "mirrored"


def _device_types(strategy):
    if isinstance(strategy, type(tf.distribute.get_strategy())) and not tf.distribute.has_strategy():
        return set()  # The default strategy has no list of devices: it takes the GPU if there is one.
    return {tf.DeviceSpec.from_string(device).device_type for device in strategy.extended.worker_devices}


def _multi_worker(worker: Worker | None, timeout):
    if worker is None:
        raise RuntimeError(
            "Nothing says who the workers are: set TF_CONFIG, start the program by Slurm's srun, or pass "
            "workers=['host:port', ...] and index."
        )
    wait_for_workers(worker, timeout)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(worker.workers)}),
        task_type="worker",
        task_id=worker.index,
        rpc_layer="grpc",
    )
    return MultiWorkerMirroredStrategy(cluster_resolver=resolver)


def _tpu(name, zone, project, timeout):
    found = {}

    def look_up():
        try:
            found["address"] = tf.distribute.cluster_resolver.TPUClusterResolver(name, zone, project).master()
        except Exception as error:
            found["error"] = error

    # TensorFlow asks Google Cloud for the address of a name, and then connects to it; neither has a time limit.
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError(f"Google Cloud did not say within {timeout:g} s where the TPU {name!r} is.")
    try:
        if "error" in found:
            raise found["error"]
        address = str(found["address"])
        if address.startswith("grpc://"):
            wait_for_grpc(address.removeprefix("grpc://"), "The TPU", timeout)
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(name, zone, project)
    except TimeoutError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise RuntimeError(f"There is no TPU {name!r} to train on: {reason}") from error
    return tf.distribute.TPUStrategy(resolver)
