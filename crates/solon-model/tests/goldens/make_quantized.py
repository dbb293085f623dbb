"""Makes the golden blocks that hold Solon's GGUF quantisers to ggml, byte for byte.

Run: python make_quantized.py          (gguf 0.19, numpy and xllamacpp 2026.10 installed)

quantized/values.bin: f32 values, little-endian. quantized/NAME.bin: the blocks that ggml's own `ggml_quantize_chunk`
makes of them without an importance matrix, called in the library that xllamacpp ships. Where the `gguf` package has a
quantiser, it is held to the same bytes first.
"""

import ctypes
import importlib.util
import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, QuantError, quantize

HERE = pathlib.Path(__file__).parent / "quantized"
HERE.mkdir(exist_ok=True)
package = pathlib.Path(importlib.util.find_spec("xllamacpp").origin).parent
ggml = ctypes.CDLL(str(next(package.glob("xllamacpp*.so"))))
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]

random = np.random.default_rng(20261129)
values = np.concatenate([
    random.normal(0, 0.05, 3072),  # as weights are
    random.normal(0, 0.05, 512) * random.lognormal(0, 2, 512),  # with outliers
    random.uniform(1, 2, 256),  # all above zero
    random.uniform(-2, -1, 256),  # all below
    np.zeros(256),
    np.full(256, 0.25),
    np.where(np.arange(256) % 64 < 32, 0, random.normal(0, 1, 256)),  # groups of zeros
    np.tile([-1, 1, 0.5, -0.5], 64),  # ties
    random.normal(0, 1e-7, 256),  # factors that are subnormal in f16
])  # fmt: skip
values = values.astype("<f4")
(HERE / "values.bin").write_bytes(values.tobytes())
for name in ["F16", "BF16", "Q8_0", "Q4_0", "Q5_0", "Q4_K", "Q6_K"]:
    kind = GGMLQuantizationType[name]
    length, size = GGML_QUANT_SIZES[kind]
    blocks = np.zeros(values.size // length * size, np.uint8)
    row = max(length, 256)
    written = ggml.ggml_quantize_chunk(
        int(kind), values.ctypes.data, blocks.ctypes.data, 0, values.size // row, row, None
    )
    assert written == blocks.size, (name, written)
    try:
        ours = quantize(values.reshape(-1, row), kind).view(np.uint8).reshape(-1)
        same = f"gguf differs in {int((ours.reshape(-1, size) != blocks.reshape(-1, size)).any(axis=1).sum())} blocks"
    except (NotImplementedError, QuantError):
        same = "gguf has no quantiser"
    (HERE / f"{name}.bin").write_bytes(blocks.tobytes())
    print(name, blocks.size, "bytes;", same)
