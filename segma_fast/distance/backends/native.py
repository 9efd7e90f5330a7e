"""The backend ``native``: the C++ kernels for the CPU in ``csrc/``, which the module ``_C`` registers with torch."""

from segma_fast.distance.backends import extension
from segma_fast.distance.backends.registry import Backend, register

register(
    Backend(
        "native",
        "compiled C++, value and gradients in one pass over pairs of points, O(mD) memory, CPU",
        rank=0,
        missing=lambda: extension.REASON,
        unsuitable=lambda device, dtype, dim: (
            None if device.type == "cpu" else f"it has no kernel for {device.type} tensors"
        ),
        operators="compiled",
        slices="compiled",
    )
)
