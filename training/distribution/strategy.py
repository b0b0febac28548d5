"""Choose where to train a model: on the CPU, on one or all GPUs, on several machines, or on a TPU."""

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
    """Return a `tf.distribute.Strategy` for training on the CPU, GPUs, several machines or a TPU.

    Build and compile the model in its scope:

    ```python
    strategy = training.strategy()
    with strategy.scope():
        model = keras_vit.ViT_S16(classes=10, dtype=training.precision(strategy))
        training.synchronize(model)
        model.compile(...)
    model.fit(...)
    ```

    `training.fit` compiles and synchronizes the model itself. The batch size is always the global one: each replica
    gets a part of each batch.

    Call this function at the start of the program, before TensorFlow runs any operation, because devices and workers
    can't be added later.

    If you use Keras' own `fit` with several replicas:

    - Every batch must divide equally among the replicas. With several workers, this also applies to `predict`;
      otherwise, the workers may wait for each other forever.
    - The dataset must have a known cardinality. Otherwise, Keras 3.15 ends each epoch with a step without images.
    - Without `synchronize`, each replica normalizes with the statistics of its own part of the batch. The moving
      statistics of batch normalization are still averaged over all replicas.

    Args:
        kind: Where to train:

            - "cpu": the CPU of this machine.
            - "gpu": the first GPU that TensorFlow finds.
            - "mirrored": all GPUs of this machine, or `devices`. Each has a copy of the model and gets a part of each
              batch.
            - "multi_worker": several processes, usually on several machines. Each uses all its GPUs, or its CPU if it
              has none. All processes run the same program. The chief, which is worker 0, writes the files.
            - "tpu": a TPU.
            - "auto": the first of these that is available: several workers (if described by TF_CONFIG or a Slurm job
              step), a TPU (if TPU_NAME is set), several GPUs, one GPU, the CPU.
        devices: The devices for "mirrored", such as ["GPU:0", "GPU:1"].
        workers: The addresses "host:port" of all processes for "multi_worker", in the same order in every process. By
            default, they are read from TF_CONFIG or from Slurm's variables.
        index: The index of this process in `workers`.
        tpu: The name of the TPU, its address "grpc://host:port", or "local" on a TPU VM. The default is the value of
            TPU_NAME, or "local" if it is not set.
        zone: The Google Cloud zone of the TPU.
        project: The Google Cloud project of the TPU.
        timeout: The time in seconds within which the workers or the TPU must answer.

    Raises:
        ValueError: If the kind is unknown, an argument does not apply to the kind, or a worker's address is invalid.
        RuntimeError: If there is no such device, or the workers are not specified.
        TimeoutError: If a worker or the TPU does not answer in time. The message contains its address.
        OSError: If this worker can't listen on its address.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}; received {kind!r}.")
    given = {"devices": devices, "workers": workers, "index": index, "tpu": tpu, "zone": zone, "project": project}
    allowed = {"mirrored": ("devices",), "multi_worker": ("workers", "index"), "tpu": ("tpu", "zone", "project")}
    for name, value in given.items():
        if value is not None and name not in allowed.get(kind, ()):
            owner = next(kind for kind, names in allowed.items() if name in names)
            raise ValueError(f"{name} requires kind={owner!r}; received {name}={value!r} with kind={kind!r}.")
    if kind == "auto":
        kind = _kind_here()
    if kind == "tpu":
        return _tpu(tpu or os.environ.get("TPU_NAME") or "local", zone, project, timeout)
    if kind == "multi_worker":
        return _multi_worker(worker_of_environment() if workers is None else given_worker(workers, index), timeout)
    gpus = tf.config.list_logical_devices("GPU")
    if kind == "cpu":
        # Without a GPU, the default strategy uses the CPU. It is the only one with which Keras enables XLA.
        return tf.distribute.OneDeviceStrategy("/cpu:0") if gpus else tf.distribute.get_strategy()
    if not gpus and devices is None:
        raise RuntimeError(f"kind={kind!r} needs a GPU, but TensorFlow finds none; use kind='cpu' to train on the CPU.")
    return tf.distribute.get_strategy() if kind == "gpu" else MirroredStrategy(devices)


def precision(strategy: tf.distribute.Strategy | None = None) -> str:
    """Return the dtype policy that suits the devices of a strategy, as in `ViT_B16(dtype=precision(strategy))`.

    - "mixed_bfloat16" on TPUs, and on GPUs with compute capability 8 (Ampere) or higher.
    - "mixed_float16" on GPUs with compute capability 7. `training.fit` then scales the loss.
    - "float32" on all other devices.

    With each of these, the weights and the state of the optimizer are float32. Keras' global policy does not change.

    Args:
        strategy: A strategy from `training.strategy`. The default is the strategy of the current scope.
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
    """Synchronize batch normalization: let all BatchNormalization layers use the statistics of the global batch.

    Without this, each replica normalizes with the statistics of its own part of the batch. Under a strategy from
    `training.strategy`, the moving statistics are then averaged over the replicas, so the moving variance does not
    include the differences between the replicas' means. (With TensorFlow's own strategies, each replica has its own
    moving statistics, and those of the first one are saved.)

    Call this function before you compile the model. It has the same effect as
    `keras.layers.BatchNormalization(synchronized=True)`. On one device, results differ only by rounding. Layers that
    are not part of a composite layer are saved with this setting, and Keras can't load such a file with the JAX
    backend.

    Args:
        model: A model.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def training_batches(
    data: ImageData, epoch: int, first: int, last: int, strategy: tf.distribute.Strategy
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Return the training batches of the steps from `first` to `last` of an epoch, for `model.fit` under a strategy.

    If there are several workers with one device each, each worker only reads and augments its own part of every batch.
    (By default, TensorFlow lets every worker create all batches and then use a part of each.)

    Args:
        data: The images.
        epoch: The epoch, counted from 0.
        first: The first step.
        last: The end of the steps, exclusive.
        strategy: The strategy of the model.
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
    """Return the dataset with options that give each worker a part of every batch.

    By default, TensorFlow distributes whole files among the workers if possible.
    """
    options = tf.data.Options()
    if batches.options().experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.AUTO:
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


def shareable(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> tf.data.Dataset:
    """Rebalance the last two batches if necessary, so that each replica gets at least one image of every batch.

    A batch with fewer images than there are replicas is merged with the batch before it, and the result is split in
    half. Otherwise, TensorFlow would give some replicas no image, and its convolutions on CPUs (2.21, oneDNN) would
    then return a wrong shape. All other batches must have at least two images per replica.

    Args:
        batches: Tuples (images, labels) of tensors or of structures of tensors.
        strategy: A strategy from `training.strategy`.
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
    """Return whether this process writes files during training. With several workers, only the first one does."""
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
        return set()  # The default strategy has no list of devices. It uses the GPU if there is one.
    return {tf.DeviceSpec.from_string(device).device_type for device in strategy.extended.worker_devices}


def _multi_worker(worker: Worker | None, timeout):
    if worker is None:
        raise RuntimeError(
            "The workers are not specified: set TF_CONFIG, start the program with Slurm's srun, or pass "
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

    # TensorFlow looks up the address of the name in Google Cloud, then connects to it, both without a time limit.
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError(f"Google Cloud did not return the address of the TPU {name!r} within {timeout:g} s.")
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
        raise RuntimeError(f"Can't train on the TPU {name!r}: {reason}") from error
    return tf.distribute.TPUStrategy(resolver)
