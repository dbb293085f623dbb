//! What can go wrong with feedback: each error says what was wrong, where, and what to do.

use std::path::PathBuf;

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// A constitution could not be read from disk.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A constitution is not TOML or JSON, or its top level is wrong.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line or key, and what to do.
        reason: String,
    },
    /// One entry of a constitution is wrong.
    #[error("{}: {entry}, field `{field}`: {reason}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry, such as `[[example]] "dog-poison"`.
        entry: String,
        /// The field of the entry.
        field: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A constitution could not be written as JSON.
    #[error("the constitution cannot be written as JSON: {0}")]
    Encode(serde_json::Error),
    /// A constitution could not be written as TOML.
    #[error("the constitution cannot be written as TOML: {0}")]
    EncodeToml(toml::ser::Error),
    /// The constitution has no entry of the kind that is needed.
    #[error(
        "the constitution `{constitution}` has no [[{table}]] entry; one is needed to {purpose}\nhint: add one"
    )]
    NothingToDraw {
        /// The constitution's name.
        constitution: String,
        /// `revision`, `comparison` or `example`.
        table: &'static str,
        /// The work that needs one.
        purpose: &'static str,
    },
    /// A few-shot cannot be put in front of a question in a chat.
    #[error(
        "the few-shot `{id}` cannot be shown in a chat: {reason}\n\
         hint: leave `few_shots` out, or write form = \"paper\", which shows it as it is"
    )]
    FewShot {
        /// The few-shot's id.
        id: String,
        /// What it lacks.
        reason: &'static str,
    },
    /// Few-shots are wanted, and the constitution has none.
    #[error(
        "the constitution `{constitution}` has no few-shots of {of}\nhint: leave `few_shots` out, or add a [[few_shot]] entry"
    )]
    NoFewShots {
        /// The constitution's name.
        constitution: String,
        /// Of what.
        of: &'static str,
    },
    /// No question is about the request alone, and the labeller is to be asked apart.
    #[error(
        "the constitution `{constitution}` asks nothing about the request alone, which `ask = \"apart\"` needs\n\
         hint: add `request = \"Does this request ask for help with …?\"` to a [[comparison]] entry, or write another `ask`"
    )]
    NoRequestQuestion {
        /// The constitution's name.
        constitution: String,
    },
    /// The requests to learn from are all harmful, or none is.
    #[error(
        "a labeller that is asked apart learns from harmful requests and from others; here are {harmful} harmful ones and \
         {others} others\nhint: give `prompts` of both, with their `kind`"
    )]
    OneSided {
        /// Harmful requests.
        harmful: usize,
        /// Requests of any other kind.
        others: usize,
    },
    /// A labeller cannot be taught to answer what is asked.
    #[error(
        "a labeller cannot be taught to answer `ask = \"{ask}\"`\nhint: teach `choice`, `rate` or `apart`"
    )]
    NotTaught {
        /// How it is asked.
        ask: &'static str,
    },
    /// A record or pair names a principle that the constitution does not have.
    #[error(
        "`{item}` names the principle `{principle}`, which is not in the constitution `{constitution}`\n\
         hint: use the constitution that the run was started with"
    )]
    UnknownPrinciple {
        /// The item, pair or record.
        item: String,
        /// The principle it names.
        principle: String,
        /// The constitution's name.
        constitution: String,
    },
    /// The form of the paper has no such speaker.
    #[error(
        "`{id}`: a message of the {role} has no place in the form of the Constitutional AI paper, in which a human and an \
         assistant speak\nhint: leave such prompts out, or write form = \"chat\""
    )]
    Speaker {
        /// The item or pair.
        id: String,
        /// The role.
        role: String,
    },
    /// Two items share an id, so their draws and records would be mixed up.
    #[error("the id `{id}` occurs twice among the {what}\nhint: give each its own id")]
    DuplicateId {
        /// The id.
        id: String,
        /// What the ids name: `items`, `pairs`, `labels`.
        what: &'static str,
    },
    /// A record that this step needs is missing.
    #[error("there is no {what} for `{id}`\nhint: finish that step before this one")]
    MissingRecord {
        /// The item or pair.
        id: String,
        /// What is missing, such as `critique of round 2`.
        what: String,
    },
    /// A setting is out of range.
    #[error("{setting} is {value}; {rule}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The feedback model failed; made with [`FeedbackError::model`].
    #[error("the feedback model failed: {0}")]
    Model(Box<dyn std::error::Error + Send + Sync>),
    /// The feedback model broke its contract.
    #[error("the feedback model broke its contract at `{id}`: {reason}")]
    Contract {
        /// The request, or the first one of the call.
        id: String,
        /// What was expected and what was returned.
        reason: String,
    },
    /// The terminal of a labelling session failed.
    #[error(
        "the labelling session cannot {action}: {source}\nhint: the votes so far are kept; give the same command again to continue"
    )]
    Terminal {
        /// `read` or `write`.
        action: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The caller could not store a vote; made with [`FeedbackError::persist`].
    #[error("a vote could not be stored: {0}")]
    Persist(Box<dyn std::error::Error + Send + Sync>),
}

impl FeedbackError {
    /// Wraps a backend's failure.
    pub fn model(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Model(source.into())
    }

    /// Wraps a failure to store a vote.
    pub fn persist(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Persist(source.into())
    }
}
