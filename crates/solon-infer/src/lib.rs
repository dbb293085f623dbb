//! Generate and score: KV cache, prefix sharing, continuous batching, sampling
