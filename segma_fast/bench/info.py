"""``segma-fast info``: what this machine and this installation have."""

from __future__ import annotations

import os
import platform

import torch

from segma_fast import __version__
from segma_fast.distance.dispatch import ENVIRONMENT_VARIABLE, choose_backend, describe_backends
from segma_fast.distance.toolchain import describe_native


def info(arguments: list[str]) -> None:
    """segma-fast info: versions, devices, compiled kernels, and which backends are available, and why others are not.

    examples:
      segma-fast info
      SEGMA_FAST_BACKEND=reference segma-fast info
    """
    if arguments:
        print(info.__doc__)
        if arguments[0] not in ("-h", "--help"):
            raise ValueError(f"info takes no arguments, got {' '.join(arguments)}")
        return
    print(f"segma_fast {__version__}, torch {torch.__version__}, Python {platform.python_version()}")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    idle = "sleep at once" if os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE" else "spin"
    idle = "spin shortly and sleep" if os.environ.get("GOMP_SPINCOUNT", "").isdecimal() else idle
    print(f"devices: cpu ({torch.get_num_threads()} threads, idle ones {idle}){''.join(', ' + gpu for gpu in gpus)}")
    print("\n".join(describe_native()))
    print("backends, best first:")
    for name, reason, description in describe_backends():
        print(f"  {name:<12} {'available' if reason is None else 'not available: ' + reason}")
        print(f"  {'':<12} {description}")
    kinds = ["cpu"] + (["cuda"] if gpus else [])
    chosen = {kind: choose_backend("auto", torch.device(kind), torch.float32, 32) for kind in kinds}
    forced = os.environ.get(ENVIRONMENT_VARIABLE)
    why = f"{ENVIRONMENT_VARIABLE}={forced}" if forced else f"set {ENVIRONMENT_VARIABLE} to change it"
    print("auto chooses: " + ", ".join(f"{name} on {kind}" for kind, name in chosen.items()) + f" ({why})")
