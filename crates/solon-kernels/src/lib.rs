//! Arithmetic on slices: GEMM, attention, norms, RoPE, the log-prob head, AdamW
