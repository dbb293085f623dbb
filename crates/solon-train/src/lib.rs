//! Losses, optimizer, packing, checkpoints; SFT, reward model, DPO and PPO trainers
