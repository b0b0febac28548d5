"""Check the strategies by name, and the errors if a device or worker is not available."""

import json
import re
import socket
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vit import training
from keras_vit.layers import ConvNorm
from keras_vit.training.distribution.cluster import Worker, expand_hosts, wait_for_workers, worker_of_environment
from keras_vit.training.distribution.strategy import shareable

without_gpu = pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU here")


@pytest.fixture
def silent():
    """Yield the address of a server that accepts connections but sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@without_gpu
def test_without_a_gpu_auto_uses_the_cpu_and_float32(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_STEP_NUM_TASKS", "TPU_NAME"):
        monkeypatch.delenv(name, raising=False)
    strategy = training.strategy()
    assert strategy.num_replicas_in_sync == 1
    for chosen in (strategy, training.strategy("cpu"), training.strategy("mirrored", devices=["CPU:0"]), None):
        assert training.precision(chosen) == "float32"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("capability", "policy"), [((9, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")]
)
def test_the_precision_depends_on_the_generation_of_the_gpu(monkeypatch, capability, policy):
    # The older of two GPUs decides.
    details = {"old": {"compute_capability": capability}, "new": {"compute_capability": (9, 0)}}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(details))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
    assert training.precision() == policy


@without_gpu
@pytest.mark.parametrize("kind", ["gpu", "mirrored"])
def test_a_missing_gpu_is_reported(kind):
    with pytest.raises(RuntimeError, match=f"kind='{kind}' needs a GPU, but TensorFlow finds none"):
        training.strategy(kind)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "tpus"}, "kind must be one of auto, cpu.*'tpus'"),
        ({"kind": "cpu", "tpu": "local"}, "tpu requires kind='tpu'"),
        ({"workers": ["a:1"]}, "workers requires kind='multi_worker'"),
        ({"kind": "multi_worker", "workers": ["a:1", "b"], "index": 0}, "'host:port'; received 'b'"),
        ({"kind": "multi_worker", "workers": ["a:1", "a:1"], "index": 0}, "workers must be different"),
        ({"kind": "multi_worker", "workers": ["a:1", "b:1"]}, "from 0 to 1; received None"),
        ({"kind": "multi_worker", "workers": ["a:1", "b:1"], "index": 2}, "from 0 to 1; received 2"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        training.strategy(**arguments)


def test_a_worker_that_does_not_answer_is_reported_in_time():
    own, other = free_address(), free_address()
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=f"Worker 1 at {re.escape(other)} did not answer within 1 s"):
        training.strategy("multi_worker", workers=[own, other], index=0, timeout=1)
    assert time.monotonic() - start < 10


def test_workers_that_are_running_find_each_other(silent):
    wait_for_workers(Worker((free_address(), silent), 0), timeout=5)


def test_an_address_in_use_is_reported(silent):
    with pytest.raises(OSError, match=f"Worker 0 can't listen on {re.escape(silent)}"):
        wait_for_workers(Worker((silent, free_address()), 0), timeout=1)


def test_a_tpu_that_does_not_answer_is_reported_in_time(silent):
    for address in (free_address(), silent):
        start = time.monotonic()
        with pytest.raises(TimeoutError, match=f"The TPU at {re.escape(address)} did not answer within 1 s"):
            training.strategy("tpu", tpu=f"grpc://{address}", timeout=1)
        assert time.monotonic() - start < 10


def test_workers_must_be_specified(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError, match="The workers are not specified"):
        training.strategy("multi_worker")


def test_workers_are_read_from_tf_config():
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}

    def worker(kind, index, cluster=cluster):
        config = {"cluster": cluster, "task": {"type": kind, "index": index}}
        return worker_of_environment({"TF_CONFIG": json.dumps(config)})

    assert worker("chief", 0) == Worker(("a:1", "b:1", "c:1"), 0)
    assert worker("worker", 1) == Worker(("a:1", "b:1", "c:1"), 2)
    assert worker("worker", 1, {"worker": ["b:1", "c:1"]}) == Worker(("b:1", "c:1"), 1)
    with pytest.raises(ValueError, match="TF_CONFIG has 'evaluator'"):
        worker("evaluator", 0)
    with pytest.raises(ValueError, match=r"TF_CONFIG can't be parsed"):
        worker_of_environment({"TF_CONFIG": "{"})
    assert worker_of_environment({}) is None


def test_workers_are_read_from_slurm_variables():
    variables = {
        "SLURM_PROCID": "3",
        "SLURM_STEP_NUM_TASKS": "5",
        "SLURM_STEP_NODELIST": "gpu[09-10],big",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    }
    workers = ("gpu09:700", "gpu09:701", "gpu10:700", "gpu10:701", "big:700")
    assert worker_of_environment(variables, port=700) == Worker(workers, 3)
    with pytest.raises(ValueError, match="variables are inconsistent"):
        worker_of_environment({**variables, "SLURM_STEP_NUM_TASKS": "4"})
    with pytest.raises(ValueError, match="no SLURM_STEP_NODELIST; start it with srun"):
        worker_of_environment({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"})


@pytest.mark.parametrize(
    ("names", "hosts"),
    [
        ("one", ["one"]),
        ("a,b-2", ["a", "b-2"]),
        ("n[1-3,08]", ["n1", "n2", "n3", "n08"]),
        ("r[1-2]n[0,2].local", ["r1n0.local", "r1n2.local", "r2n0.local", "r2n2.local"]),
    ],
)
def test_slurm_host_lists_are_expanded(names, hosts):
    assert expand_hosts(names) == hosts


def test_synchronize_reaches_every_batch_normalization():
    def model():
        image = keras.Input((8, 8, 3))
        inner = keras.Sequential([keras.Input((8, 8, 4)), ConvNorm(4)])
        x = inner(keras.layers.BatchNormalization()(ConvNorm(4)(image)))
        return keras.Model(image, keras.layers.Flatten()(x))

    plain, synchronized = model(), model()
    synchronized.set_weights(plain.get_weights())
    training.synchronize(synchronized)
    norms = [n for n in synchronized._flatten_layers() if isinstance(n, keras.layers.BatchNormalization)]
    assert [norm.synchronized for norm in norms] == [True] * 3
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(plain(images, training=True), synchronized(images, training=True), atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "images", "sizes"), [(4, 9, [4, 2, 3]), (4, 10, [4, 4, 2]), (4, 5, [2, 3]), (4, 8, [4, 4]), (4, 1, [1])]
)
def test_a_last_batch_that_is_too_small_for_the_replicas_is_rebalanced(batch, images, sizes):
    class Two:
        num_replicas_in_sync = 2

    numbers = np.arange(images)
    batches = shareable(tf.data.Dataset.from_tensor_slices((numbers[:, None], numbers)).batch(batch), Two)
    assert batches.cardinality() == len(sizes)
    received = list(batches.as_numpy_iterator())
    assert [len(labels) for _, labels in received] == sizes
    for part in (0, 1):
        np.testing.assert_array_equal(np.concatenate([pair[part].ravel() for pair in received]), numbers)
