"""Encoder and decoder of a trained model as programs that need torch alone: what ``torch.export`` makes of them."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from segma_fast.trainer.files import replacing
from segma_fast.trainer.models import ImageModel

ENCODER, DECODER = "encoder.pt2", "decoder.pt2"


class _Part(nn.Module):
    """One method of a model as the forward of a module."""

    def __init__(self, model: ImageModel, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = getattr(self.model, self.method)(rows)
        return found


def export(model: ImageModel, image_shape: tuple[int, int, int], folder: Path) -> list[Path]:
    """Write ``encoder.pt2`` and ``decoder.pt2``, programs on the CPU for any number of rows.

    Args:
        model: in evaluation mode.
        image_shape: (C, H, W).
        folder: receives the files; others in it stay.

    Raises:
        ValueError: if the folder is a file, or for a model whose encoder draws random numbers: ADGM and CaGeM.
    """
    if folder.is_file():
        raise ValueError(f"programs are exported to a folder, {folder} is a file")
    model = copy.deepcopy(model).cpu()
    images = torch.rand(3, *image_shape, generator=torch.Generator().manual_seed(0))
    programs = {ENCODER: _program(model, "encode", images), DECODER: _program(model, "decode", model.encode(images))}
    for name, program in programs.items():
        with replacing(folder / name) as draft:
            torch.export.save(program, written := io.BytesIO())  # into a file on a full disk it would abort
            draft.write_bytes(written.getvalue())
    return [folder / name for name in programs]


def _program(model: ImageModel, method: str, rows: Tensor) -> ExportedProgram:
    """A method of a model as a program without paths of this machine.

    Raises:
        ValueError: if it draws random numbers, for which a program would take others than the model does.
    """
    program = torch.export.export(_Part(model, method), (rows,), dynamic_shapes=({0: Dim("n", min=1)},))
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(program.module()(rows))
    if not torch.equal(*found):
        raise ValueError(f"the model {model.name!r} draws random numbers to {method}: it cannot be exported")
    return program
