//! The decoder, forward and backward, LoRA, and model files in and out
