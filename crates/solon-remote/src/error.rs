//! What makes every question fail: each error says what was wrong, where, and what to do.

use std::path::PathBuf;

/// Any failure of this crate that is not one question's own.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RemoteError {
    /// A name is none of a model on a server.
    #[error("there is no model `{name}`\nhint: give {forms}")]
    Name {
        /// As it was given.
        name: String,
        /// What may be given.
        forms: &'static str,
    },
    /// A setting is out of range, or settings do not go together.
    #[error("{setting} is `{value}`; {rule}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value; never a key.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// A question cannot be asked of any server.
    #[error("the question `{id}`: {reason}")]
    Question {
        /// The question's id.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A server answers no question.
    #[error("{endpoint}: {reason}")]
    Server {
        /// Its address.
        endpoint: String,
        /// What happened, and what to do.
        reason: String,
    },
    /// The next question may cost more than is left of the budget.
    #[error(
        "the budget of {limit} is used up: {spent} so far, and the next question may take {next}\n\
         hint: what was answered is kept; give the same again with a larger budget to continue"
    )]
    Budget {
        /// The budget.
        limit: String,
        /// What was spent of it, runs before this one included.
        spent: String,
        /// The most that the next question may take.
        next: String,
    },
    /// The record of answers cannot be used.
    #[error("{}: {reason}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where there is one, and what to do.
        reason: String,
    },
}
