//! Tokenizer, chat template and loss masks
