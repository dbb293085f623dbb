//! What can go wrong in an evaluation. Every message says what was wrong, where, and what to do.

use std::path::PathBuf;

/// An evaluation error.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// No benchmark has this name.
    #[error("unknown benchmark {found:?}\nhint: give one of {known}")]
    UnknownBenchmark {
        /// The name that was given.
        found: String,
        /// The names there are.
        known: String,
    },
    /// A setting does not exist, or its value does not fit.
    #[error("benchmark {benchmark}: {reason}")]
    Settings {
        /// The benchmark.
        benchmark: String,
        /// Which setting is wrong, and what to give.
        reason: String,
    },
    /// A prompt has no `kind`, or one that no benchmark knows.
    #[error("prompt {prompt:?} {}\nhint: give it one of {expected}", kind(found.as_deref()))]
    Kind {
        /// The prompt's id.
        prompt: String,
        /// Its kind, if it has one.
        found: Option<String>,
        /// The kinds there are.
        expected: String,
    },
    /// Every prompt is of a kind that only other benchmarks ask.
    #[error(
        "none of the {prompts} prompts is of a kind that the benchmark asks\nhint: give prompts of the kinds {expected}"
    )]
    NothingToAsk {
        /// How many prompts there are.
        prompts: usize,
        /// The kinds the benchmark asks.
        expected: String,
    },
    /// An item of the benchmark was not answered, so the rates would cover other items.
    #[error("benchmark {benchmark}: item {id:?} has no answer\nhint: ask every item of the benchmark")]
    MissingAnswer {
        /// The benchmark.
        benchmark: &'static str,
        /// The item's id.
        id: String,
    },
    /// An answer names an item that the benchmark does not have.
    #[error(
        "benchmark {benchmark}: an answer names {id:?}, which is not an item of it\nhint: use the prompts that were asked"
    )]
    UnknownItem {
        /// The benchmark.
        benchmark: &'static str,
        /// The id the answer names.
        id: String,
    },
    /// A judgement lacks the outcome of a measure that covers its item.
    #[error("the judgement of {id:?} has no outcome for {measure:?}\nhint: judge the answer again")]
    MissingOutcome {
        /// The item's id.
        id: String,
        /// The measure's key.
        measure: &'static str,
    },
    /// Summaries of two benchmarks were compared; they have no measure in common.
    #[error("{first:?} is of the benchmark {}, {second:?} of {}\nhint: compare models on one benchmark", benchmarks[0], benchmarks[1])]
    OtherBenchmark {
        /// The name of one summary.
        first: String,
        /// The name of the other.
        second: String,
        /// Their benchmarks.
        benchmarks: [&'static str; 2],
    },
    /// A pair to be tested names a column that does not exist.
    #[error("no column {column} to compare (columns are counted from 0; their number is {columns})")]
    NoColumn {
        /// The column's index.
        column: usize,
        /// How many columns there are.
        columns: usize,
    },
    /// No measure decides which model is better.
    #[error(
        "nothing of {benchmark}'s score was measured, so it cannot choose a model\nhint: choose by an evaluation such as `safety`, \
         or give the one there its judge"
    )]
    NoScore {
        /// The benchmark.
        benchmark: &'static str,
    },
    /// Two models were asked different items, so they cannot be compared.
    #[error("{first:?} and {second:?} were asked different items: only one of them was asked {id:?}")]
    OtherItems {
        /// The name of one model.
        first: String,
        /// The name of the other.
        second: String,
        /// An item that only one of them was asked.
        id: String,
    },
    /// Two files of results have no item in common.
    #[error("{reason}")]
    NothingInCommon {
        /// What the files hold, and what to do.
        reason: String,
    },
    /// Two items share an id, so the answers of two models could not be paired.
    #[error("the id {id:?} appears more than once\nhint: give each prompt its own id")]
    DuplicateId {
        /// The repeated id.
        id: String,
    },
    /// A CSV file could not be opened or parsed; `source` names the line.
    #[error("cannot read {}: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: csv::Error,
    },
    /// A row of a file does not fit.
    #[error("{}, line {line}: {reason}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line the row begins on.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read, or does not fit.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A label that XSTest does not publish.
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
