"""What this machine has, and short real tests of what a run needs.

Each check returns one line or raises an error. Each imports the package that it tests, so a broken package fails only its check.
"""

import os
import platform
import secrets
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from orchestrator.cores import cores
from orchestrator.planning.precision import of_this_machine, processor_has_bfloat16
from orchestrator.storage.remote import SHORT, Address, Remote, refuse_unusable

GIGABYTE = 1e9


def project() -> str:
    """Version and commit of this project, and of the packages that its results depend on."""
    from orchestrator.engine.provenance import git_commit, versions

    commit = git_commit()
    return ", ".join([*(f"{name} {version}" for name, version in versions().items()), *([f"commit {commit}"] if commit else [])])


def machine() -> str:
    """Python, system, cores and memory."""
    import psutil

    memory = psutil.virtual_memory()
    free = f"{memory.available / GIGABYTE:.1f} of {memory.total / GIGABYTE:.1f} GB of memory free"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"Python {sys.version.split()[0]}, {system}, {cores()} of {os.cpu_count()} cores, {free}"


def convolution() -> str:
    """A convolution, forward and backward on the CPU and forward on every GPU; all must agree."""
    import torch

    torch.manual_seed(0)
    layer, images = torch.nn.Conv2d(3, 4, 3), torch.rand(2, 3, 16, 16)
    expected = layer(images)
    expected.sum().backward()
    gpus = []
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        found = layer.to(device)(images.to(device)).cpu()
        if not torch.allclose(found, expected, atol=1e-2):  # TF32 has a mantissa of ten bits
            raise ArithmeticError(f"GPU {index} and the CPU give different results of a convolution")
        properties = torch.cuda.get_device_properties(index)
        gpus.append(f"{properties.name} with {properties.total_memory / GIGABYTE:.0f} GB")
    return f"a convolution, {torch.get_num_threads()} threads; GPUs: {', '.join(gpus) or 'none'}"


def bfloat16() -> str:
    """Whether the CPU and each GPU compute in bfloat16, and what the precision `auto` is here."""
    import torch

    natively = processor_has_bfloat16()
    found = [f"CPU: {'unknown' if natively is None else _computed(natively)}"]
    for index in range(torch.cuda.device_count()):
        with torch.cuda.device(index):
            found.append(f"GPU {index}: {_computed(torch.cuda.is_bf16_supported(including_emulation=False))}")
    return f"{', '.join(found)}; precision auto: {of_this_machine()}"


def _computed(natively: bool) -> str:
    return "in hardware" if natively else "emulated, which is slower than float32"


def backbone() -> str:
    """A ResNet-18 without weights on one image."""
    import torch

    import backbones
    from backbones.resnet import resnet18

    network = backbones.build(resnet18, weights="none", frozen_statistics=False).eval()
    with torch.inference_mode():
        taps = network(torch.rand(1, 3, 64, 64))
    return f"a ResNet-18, {taps[-1].shape[1]} channels"


def crf() -> str:
    """A dense CRF, which must remove a speckle from a label map."""
    import numpy as np

    from orchestrator.planning.recipes import load_all
    from refiners.crf import Parameters, hard

    rgb, label = np.full((16, 16, 3), 90, np.uint8), np.zeros((16, 16), np.uint8)
    rgb[:, 8:], label[:, 8:] = 200, 1
    speckled = label.copy()
    speckled[4, 4] = 1
    parameters = Parameters(**load_all()["crf"].table["irn-labels"])
    if not np.array_equal(hard(rgb, speckled, 2, parameters), label):
        raise ArithmeticError("the dense CRF did not remove a speckle of one pixel")
    return "a dense CRF"


def opencv() -> str:
    """OpenCV sets its threads."""
    import cv2

    cv2.setNumThreads(0)
    return cv2.__version__


def ray_import() -> str:
    """Ray can be imported. Starting it takes seconds; `ray_task` does that."""
    import ray
    from ray.train.torch import TorchTrainer

    return f"Ray {ray.__version__} with {TorchTrainer.__name__}, not started; --ray starts it"


def ray_task() -> str:
    """Start a private Ray as a launch does, and run a task on it."""
    import ray

    from orchestrator.engine.ray_engine import RayEngine

    with tempfile.TemporaryDirectory() as folder, RayEngine(Path(folder)):
        ray.get(ray.remote(platform.node).remote(), timeout=60)
        resources = ray.cluster_resources()
        return f"a task of a private Ray with {resources['CPU']:.0f} CPUs and {resources.get('GPU', 0):.0f} GPUs"


def tracking() -> str:
    """Make and read an MLflow database."""
    from orchestrator.tracking.mlflow_experiment import open_client

    with tempfile.TemporaryDirectory() as folder:
        client = open_client(f"sqlite:///{folder}/mlflow.db")
        name = client.get_experiment(client.create_experiment("doctor", artifact_location=folder)).name
    return f"{metadata.version('mlflow')}, an sqlite database with the experiment {name!r}"


def storage(store: Path) -> str:
    """Free space, a lease and an atomic write in the store's folder, or where it would be; removes what it writes."""
    from orchestrator.storage.lease import try_lease
    from orchestrator.storage.store import read_json, write_json

    if store.exists() and not store.is_dir():
        raise NotADirectoryError(f"{store} is a file; results are kept in a folder")
    place = next(folder for folder in (store, *store.parents) if folder.is_dir())
    with tempfile.TemporaryDirectory(dir=place, prefix=".doctor-") as folder, try_lease(Path(folder)) as lease:
        if lease is None:
            raise OSError(f"a lease cannot be taken in {place}")
        lease.fence()
        write_json(Path(folder) / "written.json", {"whole": True})
        if read_json(Path(folder) / "written.json") != {"whole": True}:
            raise OSError(f"a file in {place} has another content when it is read than was written")
    disk = shutil.disk_usage(place)
    return f"a lease and a write in {place}, {disk.free / GIGABYTE:.0f} of {disk.total / GIGABYTE:.0f} GB free"


def remote_storage(address: Address) -> str:
    """Write, list, read and delete an object in a store on S3, or where it would be."""
    remote, folder = Remote(address, SHORT), f"doctor-{secrets.token_hex(8)}"
    key = f"{folder}/whole"
    refuse_unusable(remote)
    remote.put(b"whole", key)
    try:
        if remote.get(key) != b"whole" or key not in [info.path for info in remote.listed(folder)]:
            raise OSError(f"an object in {address.uri} is not listed and read as it was written")
    finally:
        remote.delete(folder, folder=True)
    return f"an object written, listed, read and deleted in {address.uri}{f' on {address.endpoint}' if address.endpoint else ''}"
