"""Write golden.json: where PyTorch's optimizers arrive, for machines without PyTorch.

Run in the repository's root:  python -m tests.kernels.make_golden
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Case
from .torch_twin import TWIN_CASES, twin

PATH = Path(__file__).with_name("golden.json")
SIZE, STEPS = 6, 25
CHECKED = (1, 2, 25)


def parameters(dtype: Any) -> np.ndarray:
    """Small fractions of powers of 2: exact in both dtypes on every machine."""
    return ((np.arange(SIZE) - 2.5) / 4).astype(dtype)


def gradient(t: int, dtype: Any) -> np.ndarray:
    return (((np.arange(SIZE) * 7 + t * 5) % 17 - 8) / 16).astype(dtype)


def path(case: Case, dtype: str) -> list[list[float]]:
    """The parameters after each of the CHECKED steps."""
    import torch

    tensor = torch.tensor(parameters(dtype), requires_grad=True)
    optimizer = twin(case, [tensor])
    found = []
    for t in range(1, STEPS + 1):
        tensor.grad = torch.tensor(gradient(t, dtype))
        optimizer.step()
        if t in CHECKED:
            found.append(tensor.detach().numpy().astype(np.float64).tolist())
    return found


def main() -> None:
    import torch

    cases = {str(case): {dtype: path(case, dtype) for dtype in ("float32", "float64")} for case in TWIN_CASES}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(values)}" for name, values in cases.items())
    PATH.write_text(f'{{"torch": "{torch.__version__}", "cases": {{\n{lines}\n}}}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
