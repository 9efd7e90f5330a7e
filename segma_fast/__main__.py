"""The command line: ``segma-fast COMMAND``, one of ``COMMANDS``."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

from segma_fast.before_torch import imports_are_done

TRAINED = "segma_fast.trainer.commands.trained_model"
PICTURES = "segma_fast.trainer.commands.pictures"
COMMANDS = {  # name: (module, function, one line)
    "train": ("segma_fast.trainer.commands.train", "train_command", "train a model and write a run folder"),
    "sample": (PICTURES, "sample", "draw images from the components of the mixture"),
    "interpolate": (PICTURES, "interpolate", "interpolate between images in the latent space"),
    "transfer": (PICTURES, "transfer", "move images to another class, keeping their style (equation 10)"),
    "intensify": (PICTURES, "intensify", "move images away from a class (equation 11)"),
    "reconstruct": (PICTURES, "reconstruct", "encode and decode images"),
    "show": (PICTURES, "show", "test images with their numbers and classes"),
    "classify": (TRAINED, "classify", "say which class images belong to"),
    "evaluate": (TRAINED, "evaluate", "test error, reconstruction error and d² of a trained model"),
    "explore": ("segma_fast.trainer.commands.explore", "explore", "a page in the browser to play with a trained model"),
    "publish": (TRAINED, "publish", "a trained model to hand on, as a folder or on the Hugging Face Hub"),
    "export": (TRAINED, "export", "encoder and decoder as programs that torch alone runs"),
    "reproduce": ("segma_fast.trainer.experiments.reproduce", "main", "reproduce the paper's tables and figures"),
    "compare": (
        "segma_fast.trainer.experiments.compare",
        "main",
        "train several models on one data set and compare them",
    ),
    "bench": (
        "segma_fast.bench.command",
        "main",
        "time the distance with every backend on this machine (two minutes)",
    ),
    "info": (
        "segma_fast.bench.info",
        "info",
        "versions, devices, compiled kernels, and which backends are available and why",
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error that the user can fix is printed as one line on stderr, with exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(_overview())
        return
    if name == "--version":
        from segma_fast import __version__

        print(__version__)
        return
    if name not in COMMANDS:
        _fail(f"unknown command {name!r}, expected one of {', '.join(COMMANDS)}")
    module, function, _ = COMMANDS[name]
    try:
        command: Callable[[list[str]], None] = getattr(import_module(module), function)
        imports_are_done()
        with _plain_warnings():
            command(arguments[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("segma_fast"):
            raise
        extra = "train,explore" if name == "explore" else "train"
        _fail(f'segma-fast {name} needs the package {error.name}: pip install "segma-fast[{extra}]"')
    except BrokenPipeError:  # the reader closed the pipe, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, ArithmeticError, OSError, MemoryError) as error:  # any other is a bug of ours
        if os.environ.get("SEGMA_FAST_TRACEBACK"):
            raise
        _fail(str(error).strip() or type(error).__name__)
    except KeyboardInterrupt:
        again = "; the same command goes on where it was" if name in ("compare", "reproduce") else ""
        print(f"\nsegma-fast {name}: interrupted{again}", file=sys.stderr)
        sys.exit(130)


def _overview() -> str:
    lines = [f"  {name:<12} {line}" for name, (_, _, line) in COMMANDS.items()]
    return "\n".join(
        ["usage: segma-fast COMMAND [--help] [options]", "", *lines, "", "segma-fast COMMAND --help shows examples."]
    )


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show warnings as errors are shown, without the line of Python that they come from."""
    former = warnings.formatwarning

    def plain(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        ours = category in (UserWarning, RuntimeWarning)  # others tell programmers what will change
        return f"segma-fast: warning: {message}\n" if ours else former(message, category, filename, lineno, line)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = former


def _fail(message: str) -> None:
    print(f"segma-fast: error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
