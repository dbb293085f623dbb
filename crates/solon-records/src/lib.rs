//! Records that the crates pass to each other: [`Message`], its [`Content`] and what it holds [`Beside`], [`TemplateInputs`], [`Context`], [`Prompt`],
//! [`Demonstration`], [`Pair`], [`Preference`], [`SamplingSettings`].
//!
//! Contract: plain data with its JSON form and the checks that belong to it. This crate reads no files and knows no
//! model, so every other crate may use it. For that reason [`without_panic`] is here too, for crates that know nothing of each other.

mod beside;
mod content;
mod context;
mod demonstration;
mod inputs;
mod message;
mod panics;
mod preference;
mod prompt;
mod sampling;

pub use beside::{Beside, TEMPLATE_FIELDS, calls_of, is_filled};
pub use content::Content;
pub use context::Context;
pub use demonstration::Demonstration;
pub use inputs::{TemplateInputs, as_tool};
pub use message::{Message, ROLES, check_role, transcript};
pub use panics::without_panic;
pub use preference::{Pair, Preference};
pub use prompt::Prompt;
pub use sampling::SamplingSettings;

/// How a file begins that Git LFS left where the file itself was not fetched.
pub const GIT_LFS_POINTER: &str = "version https://git-lfs.github.com/spec/";
/// What such a file is, and what to do.
pub const IS_GIT_LFS_POINTER: &str =
    "is a pointer of Git LFS, not the file itself\nhint: fetch the file with `git lfs pull`";
