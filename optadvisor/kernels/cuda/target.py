"""What runs a kernel: a CUDA device, or numba's simulator of one (NUMBA_ENABLE_CUDASIM=1). Both offer the same names."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from optadvisor.kernels.errors import InputError

if importlib.util.find_spec("numba_cuda") is None:
    raise InputError("the GPU needs numba-cuda, which is not installed: pip install 'optadvisor[cuda]'")

import numba

# mypy reads the device's side: the simulator offers the same names.
if TYPE_CHECKING or not numba.config.ENABLE_CUDASIM:
    from optadvisor.kernels.cuda.device import (
        SIMULATED,
        THREADS,
        Kernel,
        Memory,
        accessors,
        blocks,
        read,
        require,
        write,
        zeros,
    )
else:
    from optadvisor.kernels.cuda.simulator import (
        SIMULATED,
        THREADS,
        Kernel,
        Memory,
        accessors,
        blocks,
        read,
        require,
        write,
        zeros,
    )

__all__ = [
    "SIMULATED",
    "THREADS",
    "Kernel",
    "Memory",
    "accessors",
    "blocks",
    "read",
    "require",
    "write",
    "zeros",
]
