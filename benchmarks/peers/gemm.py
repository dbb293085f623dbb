"""PyTorch's matrix products: x · wᵀ, `torch.nn.functional.linear`."""

import time

import torch

SHAPES = [(1024, 1536, 576), (1024, 576, 1536), (2048, 2048, 2048)]  # m, n, k
SECONDS = 0.5


def pytorch(threads):
    """GFLOP/s of each shape and precision: the mean over as many products as fit in SECONDS."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    rates = {}
    for m, n, k in SHAPES:
        for name, dtype in [("f32", torch.float32), ("bf16", torch.bfloat16)]:
            x, w = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
            with torch.inference_mode():
                for _ in range(3):
                    torch.nn.functional.linear(x, w)
                products, start = 0, time.monotonic()
                while (seconds := time.monotonic() - start) < SECONDS:
                    torch.nn.functional.linear(x, w)
                    products += 1
            rates[f"{m}×{n}×{k} {name}"] = 2 * m * n * k * products / seconds / 1e9
    return rates
