"""Training a model: one plain loop, from a configuration to a run folder."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor

from segma_fast.trainer.batches import Rows
from segma_fast.trainer.checkpoints import State, save_checkpoint
from segma_fast.trainer.config import TrainConfig, build_model, check_step
from segma_fast.trainer.config_file import check_storable
from segma_fast.trainer.data import ImageData, load_data
from segma_fast.trainer.device import use_device
from segma_fast.trainer.figures import progress
from segma_fast.trainer.interrupts import Interrupts
from segma_fast.trainer.labels import choose_labelled
from segma_fast.trainer.lock import check_free
from segma_fast.trainer.metrics import Evaluation, evaluate
from segma_fast.trainer.metrics_log import Records
from segma_fast.trainer.models import MODELS, ImageModel
from segma_fast.trainer.run_folder import DataInfo, begin, check_folder
from segma_fast.trainer.step import CapturedStep, Step, make_optimizers

LONGEST_UNSAVED = 300  # maximum seconds between checkpoints
TURN = 8  # steps after which other trainings may start theirs


@dataclass(frozen=True)
class Outcome:
    """A finished (or timed-out) run."""

    model: ImageModel = field(repr=False)
    """in evaluation mode, on the device that it was trained on"""
    data: ImageData = field(repr=False)
    evaluation: Evaluation
    """on the test set, after the last step"""
    steps: int
    epochs: float
    seconds_per_step: float
    """median over the lines of metrics.csv"""
    complete: bool
    """whether it reached the last epoch"""


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take numbers below 1e-38 as 0 on the CPU, in this thread; threads that torch starts meanwhile keep to it.

    Once a model is sure of its few labels, the gradients of their cross-entropy and their moments in Adam are such
    numbers, and a processor takes a hundred times as long for each: a step of ADGM took five times as long.
    """
    kept = bool(torch.full((), torch.finfo(torch.float32).tiny, dtype=torch.float32, device="cpu") / 2)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if kept:
            torch.set_flush_denormal(False)


@flushed_denormals()
def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_metrics: Callable[[Mapping[str, float]], None] | None = None,
    at_end: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Train a model and leave a run folder behind, which :func:`segma_fast.trainer.load_run` opens.

    Args:
        config: the run; ``config.run_dir`` receives it.
        resume: continue the run in that folder from its last checkpoint, with the same weights as an uninterrupted run.
        overwrite: replace a run that is in that folder.
        on_metrics: called with each line of metrics.csv, every ``config.log_every`` steps: numbers by column name,
            without those that were not measured. Called on the main process, after the step's checkpoint if it has
            one (only then there is a ``test_error``); what it raises ends the run.
        at_end: called on the main process with what this function returns, unless Ctrl-C ended the run, while the
            folder is still locked against other commands: what else belongs into it is written here.

    Raises:
        ValueError: if the folder holds a run and neither ``resume`` nor ``overwrite`` is given, if there is nothing
            to resume, if the saved configuration differs (the message names the fields), if labels or batch sizes do
            not fit the data, or if another command is using the folder.
        OSError: if a file cannot be written, as on a full disk; the message names it, and the checkpoint that stays.
        FloatingPointError: if the loss stops being finite; the last checkpoint stays.
        KeyboardInterrupt: after Ctrl-C, at the end of the step and after saving a checkpoint. A second Ctrl-C acts at
            once; with several processes the first one does too.
    """
    interrupts = Interrupts()
    turns = training(config, interrupts, resume=resume, overwrite=overwrite, on_metrics=on_metrics, at_end=at_end)
    try:
        while True:
            next(turns)
    except StopIteration as end:
        outcome: Outcome = end.value
    finally:
        interrupts.act()
    return outcome


def training(
    config: TrainConfig,
    interrupts: Interrupts,
    *,
    resume: bool = False,
    overwrite: bool = False,
    data: ImageData | None = None,
    label: str = "",
    on_metrics: Callable[[Mapping[str, float]], None] | None = None,
    at_end: Callable[[Outcome], None] | None = None,
) -> Generator[bool, None, Outcome]:
    """What :func:`train` does, in turns of some steps: it yields whether it needs the results of these to go on.

    Others may train meanwhile, as :mod:`segma_fast.trainer.side_by_side` does. Once ``interrupts`` have been asked
    for, it ends after the next step with a checkpoint. ``data`` is the data set if it is loaded already, and ``label``
    begins the lines that are printed. Arguments and errors are otherwise those of :func:`train`.
    """
    check_storable(config)
    check_free(config.run_dir)
    checkpoint = check_folder(config, resume, overwrite)
    accelerator = make_accelerator(config)
    with accelerator.main_process_first():
        if data is None and checkpoint is not None:
            data = DataInfo.load(config.run_dir).find(config.data)
        data = load_data(config.data, labelled=config.labels > 0) if data is None else data
    labelled, pool = choose_rows(config, data)
    set_seed(config.seed)
    info = DataInfo.of(data)
    counts = torch.bincount(data.train_labels[labelled.indices], minlength=data.classes)
    known = counts if len(labelled.indices) else None
    model = build_model(config, data.image_shape, data.classes, known, len(data.train_labels))
    games = model.optimizer_groups()
    model, *optimizers = accelerator.prepare(model, *make_optimizers(model, config))
    plain_model: ImageModel = accelerator.unwrap_model(model)
    images, labels = data.train_images.to(accelerator.device), data.train_labels.to(accelerator.device)
    test_images = data.test_images.to(accelerator.device)
    test_labels = data.test_labels.to(accelerator.device) if data.labelled else None

    captured = CapturedStep.serves(config, accelerator)
    called = model
    if config.compile:
        called = torch.compile(model, mode="default" if captured else "reduce-overhead")
    update = (CapturedStep if captured else Step)(config, accelerator, called, games, optimizers, images, labels)

    def judge() -> Evaluation:
        plain_model.eval().settle(images, labels, pool.indices, labelled.indices)
        plain_model.train()
        return evaluate(plain_model, test_images, test_labels, data.classes)

    state = State(plain_model, optimizers)
    clock = state.clock
    steps, rows = config.epochs * pool.steps, len(pool[0]) + len(labelled[0])
    evaluation: Evaluation | None = None  # at the last checkpoint; the last step always saves one

    with begin(config, accelerator, resume, overwrite, info, state) as start:
        with (
            Records(
                config.run_dir, accelerator, plain_model.terms, start, steps, rows, config.minutes, label
            ) as records,
            interrupts if accelerator.num_processes == 1 else nullcontext(),
        ):
            accelerator.print(f"{label}: " * bool(label) + _headline(config, data, plain_model, steps), flush=True)
            if start >= steps:
                reached = f"{start / pool.steps:.1f} of {config.epochs}"
                accelerator.print(f"{config.run_dir} is at epoch {reached}: nothing left to train; --epochs extends it")
            step, before = start, clock.seconds
            began = tick = saved = time.perf_counter()
            while step < steps:
                rate = config.learning_rate * config.decay ** (step // pool.steps // config.decay_every)
                line = update(pool[step], labelled[step], rate)
                step += 1
                records.advance()

                timed_out = config.minutes is not None and time.perf_counter() - began > 60 * config.minutes
                timed_out = any_timed_out(timed_out, accelerator, step)
                stopping = timed_out or interrupts.asked is not None
                overdue = accelerator.num_processes == 1 and time.perf_counter() - saved > LONGEST_UNSAVED
                saving = step % config.checkpoint_every == 0 or step == steps or stopping or overdue
                if not (saving or step % config.log_every == 0):
                    if step % TURN == 0:
                        yield False
                    continue
                yield True
                values = {name: accelerator.reduce(value, "mean").item() for name, value in line.items()}
                now = time.perf_counter()
                done = clock.advance(step, now - tick)
                values |= {"step": step, "epoch": step / pool.steps, "seconds": clock.seconds}
                values["images_per_second"] = rows * done / (now - tick)
                if not all(math.isfinite(values[name]) for name in line):
                    terms_now = ", ".join(f"{name} {values[name]:.4g}" for name in line)
                    raise FloatingPointError(
                        f"the loss is not finite at step {step} ({terms_now}); lower learning_rate?"
                    )
                if saving:
                    evaluation = judge()
                    values["test_error"] = evaluation.test_error
                records.write(values, show=saving)
                if saving:
                    clock.epochs = step / pool.steps
                    clock.allowed = before + 60 * (config.minutes or math.inf) if timed_out else 0.0
                    save_checkpoint(accelerator, config.run_dir, step, state, values["test_error"])
                    saved = time.perf_counter()
                    if records.due(step, step == steps or stopping):
                        records.events.show(progress.pictures(plain_model, test_images), step)
                if on_metrics is not None and accelerator.is_main_process:  # after the checkpoint: it may end the run
                    on_metrics({name: value for name, value in values.items() if not math.isnan(value)})
                tick = time.perf_counter()
                if stopping:
                    break

        if evaluation is None:  # nothing was left to train
            evaluation = judge()
        per_step = statistics.median(clock.per_step) if clock.per_step else math.nan
        outcome = Outcome(plain_model.eval(), data, evaluation, step, step / pool.steps, per_step, step >= steps)
        if at_end is not None and accelerator.is_main_process and interrupts.asked is None:
            at_end(outcome)
    return outcome


def _headline(config: TrainConfig, data: ImageData, model: ImageModel, steps: int) -> str:
    """The line that a run begins with: data, model, device and length."""
    channels, height, width = data.image_shape
    pictures = f"{len(data.train_labels)} images of {width} × {height}{' in colour' if channels == 3 else ''}"
    threads = torch.get_num_threads()
    where = f"{model.device}, {threads} thread{'s' * (threads > 1)}"
    if model.device.type == "cuda":
        where = f"{model.device}, {torch.cuda.get_device_name(model.device)}"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    limit = "" if config.minutes is None else f", at most {config.minutes:g} minutes"
    return (
        f"{data.name}: {pictures}, {config.used_labels} labels · "
        f"{MODELS[config.model].title}, {parameters:,} parameters · {where} · "
        f"{steps} steps ({config.epochs} epoch{'s' * (config.epochs > 1)}){limit}"
    )


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Set up device, precision and processes, and check that model and backend support them."""
    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(True)  # a former run of this process may have had another precision
    device = use_device(config.device)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        cpu=device.type == "cpu",
    )
    if accelerator.num_processes > 1 and not MODELS[config.model].shares_batches:
        raise ValueError(f"the model {config.model!r} trains in one process, got {accelerator.num_processes}")
    if accelerator.num_processes > 1 and device.index is not None:
        raise ValueError(f"each of {accelerator.num_processes} processes takes a GPU of its own, got {config.device!r}")
    check_step(config, accelerator.device)
    return accelerator


def choose_rows(config: TrainConfig, data: ImageData) -> tuple[Rows, Rows]:
    """The labelled rows and the pool of unlabelled ones, each in batches."""
    labelled = torch.empty(0, dtype=torch.int64)
    if config.takes_labels:
        if config.labels == 0 or config.labelled_batch_size == 0:
            without = [name for name, kind in MODELS.items() if kind.Config().label_use != "required"]
            own = "set beta to 0 for an unsupervised model"
            hint = own if config.model == "segma" else f"without labels train {' or '.join(without)}"
            raise ValueError(
                f"labels={config.labels} and labelled_batch_size={config.labelled_batch_size} with the model "
                f"{config.model!r}: {hint}"
            )
        labelled = choose_labelled(
            data.train_labels, config.labels, config.label_choice, data.classes, seed=config.seed
        )
    free = torch.ones(len(data.train_labels), dtype=torch.bool)
    if config.unlabelled_pool == "rest":
        free[labelled] = False
    pool = free.nonzero()[:, 0]
    if len(pool) < config.batch_size:
        size, left = config.batch_size, len(pool)
        raise ValueError(
            f"batch_size={size}, but only {left} unlabelled rows are left to draw from: take {left} or less"
        )
    return Rows(labelled, config.labelled_rows, config.seed), Rows(pool, config.batch_size, config.seed)


def any_timed_out(stop: bool, accelerator: Accelerator, step: int) -> bool:
    """Whether the time limit is reached on any process; with several processes, checked only every 20 steps."""
    if accelerator.num_processes == 1:
        return stop
    if step % 20:
        return False
    flag: Tensor = accelerator.reduce(torch.tensor(float(stop), device=accelerator.device), "sum")
    return flag.item() > 0
