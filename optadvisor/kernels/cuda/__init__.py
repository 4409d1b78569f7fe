"""The same rules on CUDA devices. Imports numba-cuda on first use only; `optadvisor.kernels.Optimizer` is the way in."""
