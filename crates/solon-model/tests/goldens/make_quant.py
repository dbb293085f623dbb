"""Makes the golden blocks that hold Solon's GGUF dequantization to the `gguf` Python package, bit for bit.

Run: python make_quant.py          (gguf 0.19 and numpy installed)

quant/NAME.bin: at least 1,024 values' worth of blocks of ggml type NAME, then the same values as f32, all little-endian.
Blocks are random bytes, so every bit of every field matters; only the f16 factors are drawn as finite numbers, and
the float types as finite values.
"""

import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

HERE = pathlib.Path(__file__).parent / "quant"
# Where a block keeps its f16 factors.
FACTORS = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}  # fmt: skip
random = np.random.default_rng(20250217)
HERE.mkdir(exist_ok=True)

for name in ["F32", "F16", "BF16", *FACTORS]:
    kind = GGMLQuantizationType[name]
    length, size = GGML_QUANT_SIZES[kind]
    count = max(4, 1024 // length)
    blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    if name in FACTORS:
        for at in FACTORS[name]:
            factors = random.normal(0, 0.05, count).astype(np.float16)
            factors[0] = np.float16(6e-8)  # the smallest subnormal
            blocks[:, at : at + 2] = factors.view(np.uint8).reshape(count, 2)
    else:
        # Clear the lowest exponent bit wherever all are set: no infinities, no NaN.
        words = blocks.reshape(-1).view("<u4" if name == "F32" else "<u2")
        exponent, lowest = {"F32": (0x7F800000, 0x00800000), "F16": (0x7C00, 0x0400), "BF16": (0x7F80, 0x0080)}[name]
        words[(words & exponent) == exponent] ^= words.dtype.type(lowest)
        blocks = words.view(np.uint8).reshape(count, size)
    values = dequantize(blocks.reshape(-1), kind).astype("<f4")
    assert values.size == count * length and np.isfinite(values).all()
    (HERE / f"{name}.bin").write_bytes(blocks.tobytes() + values.tobytes())
    print(name, values.size, "values, largest", np.abs(values).max())
