//! What the fuzz targets and the ordinary test of their seeds call: for everything that reads what other people wrote, one function
//! that takes any bytes.
//!
//! Contract: whatever the bytes are, [`check`] returns. It panics if the reader panics, or if it took memory out of proportion to
//! the input. An error of the reader is a good answer.
//!
//! Knows nothing of libFuzzer: `fuzz_targets/` hands its inputs over, and so does `tests/seeds.rs` with few inputs of its own.

mod parts;
mod read;
pub mod seeds;

use peak_alloc::PeakAlloc;

/// Counts what is held, so that a length that is believed before its bytes are there is noticed even where nothing is written there.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A GGUF file as a model with its tokenizer, which answers a question.
    Gguf,
    /// The vocabulary of a GGUF file, its fields written as text.
    Vocabulary,
    /// A Hugging Face folder as a model, which answers a question.
    Model,
    /// A folder with an adapter, alone and on a model.
    Adapter,
    /// The tokenizer's files of a Hugging Face folder.
    Tokenizer,
    /// A chat template, with words to say.
    Template,
    /// A file of rows, for every purpose; compressed or not.
    Rows,
    /// A Parquet file.
    Parquet,
    /// An Arrow stream or file.
    Arrow,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Gguf,
        Self::Vocabulary,
        Self::Model,
        Self::Adapter,
        Self::Tokenizer,
        Self::Template,
        Self::Rows,
        Self::Parquet,
        Self::Arrow,
    ];

    /// The name of its fuzz target and of its folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Vocabulary => "vocabulary",
            Self::Model => "model",
            Self::Adapter => "adapter",
            Self::Tokenizer => "tokenizer",
            Self::Template => "template",
            Self::Rows => "rows",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// Bytes that reading `input` may hold at once.
    fn allowed(self, input: usize) -> usize {
        let fixed = match self {
            // What these hold is bounded by limits of their own: the text that a template may write, a record of 16 MiB.
            Self::Gguf | Self::Vocabulary | Self::Model | Self::Tokenizer | Self::Template => 512,
            Self::Rows => 128,
            Self::Adapter => 32,
            // What a batch may unpack to whatever its length, and rows of 16 MiB as text.
            Self::Arrow => 192,
            // A list of eight million values in one row.
            Self::Parquet => 1536,
        };
        (fixed << 20) + 256 * input
    }
}

/// Reads `input` as `target`; says whether it was taken.
///
/// # Panics
/// If the reader panics, or holds more memory than such an input may take. Only one thread may check at a time, because the memory is
/// that of the process.
pub fn check(target: Target, input: &[u8]) -> bool {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let taken = match target {
        Target::Gguf => read::gguf(input),
        Target::Vocabulary => read::vocabulary(input),
        Target::Model => read::model(input),
        Target::Adapter => read::adapter(input),
        Target::Tokenizer => read::tokenizer(input),
        Target::Template => read::template(input),
        Target::Rows => read::rows(input),
        Target::Parquet => read::parquet(input),
        Target::Arrow => read::arrow(input),
    };
    let held = MEMORY.peak_usage().saturating_sub(before);
    let allowed = target.allowed(input.len());
    assert!(held <= allowed, "{} bytes of input took {held} bytes of memory", input.len());
    taken
}
