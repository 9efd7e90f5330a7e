"""The command line: ``segma-fast COMMAND``, one of ``COMMANDS``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from importlib import import_module

COMMANDS = {  # name: (module, function, one line)
    "train": ("segma_fast.train_command", "train_command", "train a model and leave a run folder"),
    "sample": ("segma_fast.commands", "sample", "draw images from the components of the mixture"),
    "interpolate": ("segma_fast.commands", "interpolate", "go from one image to another through the latent space"),
    "transfer": ("segma_fast.commands", "transfer", "move images to another class, keeping their style (equation 10)"),
    "intensify": ("segma_fast.commands", "intensify", "move images away from a class (equation 11)"),
    "classify": ("segma_fast.commands", "classify", "say which class images belong to (equation 7)"),
    "evaluate": ("segma_fast.commands", "evaluate", "test error, reconstruction error and d² of a trained model"),
    "reproduce": ("segma_fast.experiments.reproduce", "main", "train what the paper's tables and figures show"),
    "compare": ("segma_fast.experiments.compare", "main", "train several models on the same data and compare them"),
    "bench": (
        "segma_fast.bench.command",
        "main",
        "time the distance on this machine by every backend, two minutes",
    ),
    "info": ("segma_fast.cli", "info", "versions, devices, compiled kernels, and which backends are available and why"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error that the user can mend is one line on stderr and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(_overview())
        return
    if name == "--version":
        from segma_fast.version import __version__

        print(__version__)
        return
    if name not in COMMANDS:
        _fail(f"unknown command {name!r}, expected one of {', '.join(COMMANDS)}")
    module, function, _ = COMMANDS[name]
    try:
        command: Callable[[list[str]], None] = getattr(import_module(module), function)
        command(arguments[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("segma_fast"):
            raise
        _fail(f'segma-fast {name} needs the package {error.name}: pip install "segma-fast[train]"')
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, TypeError, ArithmeticError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, TypeError | RuntimeError) and "alloc" not in str(error).lower():
            raise  # a mistake of ours
        if os.environ.get("SEGMA_FAST_TRACEBACK"):
            raise
        _fail(str(error).strip() or type(error).__name__)
    except KeyboardInterrupt:
        print(f"\nsegma-fast {name}: interrupted", file=sys.stderr)
        sys.exit(130)


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
    import torch

    from segma_fast.dispatch import ENVIRONMENT_VARIABLE, choose_backend, describe_backends
    from segma_fast.toolchain import describe_native
    from segma_fast.version import __version__

    print(f"segma_fast {__version__}, torch {torch.__version__}, Python {platform.python_version()}")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"devices: cpu ({torch.get_num_threads()} threads){''.join(', ' + gpu for gpu in gpus)}")
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


def _overview() -> str:
    lines = [f"  {name:<12} {line}" for name, (_, _, line) in COMMANDS.items()]
    return "\n".join(
        ["usage: segma-fast COMMAND [--help] [options]", "", *lines, "", "segma-fast COMMAND --help shows examples."]
    )


def _fail(message: str) -> None:
    print(f"segma-fast: error: {message}", file=sys.stderr)
    sys.exit(2)
