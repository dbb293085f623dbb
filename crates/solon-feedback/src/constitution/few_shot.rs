//! Few-shots: worked texts that are put in front of a question to a model, most of them for models that only continue
//! text.
//!
//! Contract: a text is kept byte for byte, spaces and line feeds at its ends included, because a prompt is made of it as
//! it is. Source: Bai et al. 2022, `CritiqueRevisionFewShotPrompts.json`, `RLMadisonFewShotPrompts.json` and
//! `RLMadisonPrecogFewShotPrompts.json`; the chats of the Hugging Face recipe.

use serde::Serialize;
use solon_records::Message;

/// One few-shot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FewShot {
    /// Unique in the constitution.
    pub id: String,
    /// What it is put in front of, and its text.
    #[serde(flatten)]
    pub shot: Shot,
}

/// What a few-shot shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "for", rename_all = "kebab-case")]
pub enum Shot {
    /// A conversation with its critique and revision, as one text.
    Critique {
        /// The whole text.
        text: String,
    },
    /// The same as messages for a chat model.
    CritiqueChat {
        /// Begins with a message of the user or the system, ends with one of the assistant.
        messages: Vec<Message>,
    },
    /// A conversation with better and worse answers. The principle and the letters of the answers are put in where it is
    /// shown.
    Comparison {
        /// The conversation, up to the assistant's turn.
        prompt: String,
        /// Better answers.
        chosen: Vec<String>,
        /// Worse answers.
        rejected: Vec<String>,
    },
    /// A comparison with its chain of thought, as one text.
    ComparisonCot {
        /// The whole text, with [`Shot::PLACE`] once, where the principle is put in.
        text: String,
    },
}

impl Shot {
    /// The principle's place in the text of [`Shot::ComparisonCot`].
    pub const PLACE: &str = "{}";
    /// The names of all uses, as in files.
    pub const USES: [&str; 4] = ["critique", "critique-chat", "comparison", "comparison-cot"];

    /// Its use, as in files.
    pub fn used_for(&self) -> &'static str {
        match self {
            Shot::Critique { .. } => "critique",
            Shot::CritiqueChat { .. } => "critique-chat",
            Shot::Comparison { .. } => "comparison",
            Shot::ComparisonCot { .. } => "comparison-cot",
        }
    }
}
