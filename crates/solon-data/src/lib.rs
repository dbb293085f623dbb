//! Records, the run ledger, JSONL, and durable file writes
