//! What can go wrong in an evaluation. Every message says what was wrong, where, and what to do.

use std::path::PathBuf;

/// An evaluation error.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// No benchmark has this name.
    #[error("unknown benchmark {found:?}: expected one of {known}")]
    UnknownBenchmark {
        /// The name that was given.
        found: String,
        /// The names there are.
        known: String,
    },
    /// Settings of a benchmark that allow no answer.
    #[error("{reason}")]
    Settings {
        /// Which setting is wrong, and what to give.
        reason: String,
    },
    /// A prompt without a `kind`, or with one that the benchmark does not know.
    #[error("prompt {prompt:?} {}\nhint: give it one of {expected}", kind(found.as_deref()))]
    Kind {
        /// The prompt's id.
        prompt: String,
        /// Its kind, if it has one.
        found: Option<String>,
        /// The kinds there are.
        expected: String,
    },
    /// An item of the benchmark was not answered, so its rates would be of other items.
    #[error("{benchmark}: no answer to {id:?}: ask every item of the benchmark")]
    MissingAnswer {
        /// The benchmark.
        benchmark: &'static str,
        /// The item's id.
        id: String,
    },
    /// An answer to something that the benchmark does not ask.
    #[error("{benchmark}: an answer to {id:?}, which is none of its items: use the prompts that were asked")]
    UnknownItem {
        /// The benchmark.
        benchmark: &'static str,
        /// The id the answer names.
        id: String,
    },
    /// A judgement without the outcome of a measure that covers its item.
    #[error("the judgement of {id:?} has no outcome for {measure:?}: judge the answer again")]
    MissingOutcome {
        /// The item's id.
        id: String,
        /// The measure's key.
        measure: &'static str,
    },
    /// Summaries of two benchmarks have no measure in common.
    #[error("{first:?} is of the benchmark {}, {second:?} of {}: compare figures of one benchmark", benchmarks[0], benchmarks[1])]
    OtherBenchmark {
        /// The name of one summary.
        first: String,
        /// The name of the other.
        second: String,
        /// Their benchmarks.
        benchmarks: [&'static str; 2],
    },
    /// A pair to be tested names a column that is not there.
    #[error("no column {column} to compare: there are {columns}, counted from 0")]
    NoColumn {
        /// The column's index.
        column: usize,
        /// How many columns there are.
        columns: usize,
    },
    /// Two models were not asked the same, so neither can be said to be the better one.
    #[error("{first:?} and {second:?} were not asked the same items: {id:?} was asked of one only")]
    OtherItems {
        /// The name of one model.
        first: String,
        /// The name of the other.
        second: String,
        /// An item asked of one alone.
        id: String,
    },
    /// Two items share an id, so answers of two models could not be paired.
    #[error("the id {id:?} appears more than once: give each prompt its own id")]
    DuplicateId {
        /// The repeated id.
        id: String,
    },
    /// A CSV file could not be opened or parsed; the source names the line.
    #[error("could not read {}: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: csv::Error,
    },
    /// A label outside the ones XSTest publishes.
    #[error("{}, id {id}: unknown {column} {found:?}: expected one of {expected}", path.display())]
    UnknownLabel {
        /// The file.
        path: PathBuf,
        /// The row's `id` column.
        id: String,
        /// The column of the label.
        column: &'static str,
        /// The label found.
        found: String,
        /// The labels known.
        expected: &'static str,
    },
}

fn kind(found: Option<&str>) -> String {
    found.map_or("has no kind".to_owned(), |kind| format!("has the unknown kind {kind:?}"))
}
