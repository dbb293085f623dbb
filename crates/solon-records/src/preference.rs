//! Two answers to one prompt, without and with a label.

use crate::{Beside, Message};
use serde::{Deserialize, Serialize};

/// Two answers to one prompt, without a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Unique among the pairs; random draws are keyed by it.
    pub id: String,
    /// The conversation both answer.
    pub prompt: Vec<Message>,
    /// One answer.
    pub first: String,
    /// The other.
    pub second: String,
    /// Whether `first` and `second` were cut off. No end of turn follows an answer that was.
    #[serde(default, skip_serializing_if = "both_end")]
    pub cut_off: [bool; 2],
    /// The comparison principle to judge by; drawn at random if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principle_id: Option<String>,
}

/// A labelled pair: which answer is preferred, and with what probability.
///
/// [`Preference::oriented`] makes `chosen` the answer that is more likely the better one. Trainers are given oriented
/// preferences only, so that accuracies and margins mean what their names say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preference {
    /// Unique in its file; `line-N` or `row-N` where the file gives none.
    pub id: String,
    /// The conversation both answer; its last message is not the assistant's.
    pub prompt: Vec<Message>,
    /// The answer preferred with `probability`.
    pub chosen: String,
    /// The other answer.
    pub rejected: String,
    /// P(`chosen` is better), in [0, 1]; 1 where the file gives none.
    pub probability: f64,
    /// By how much the reward of `chosen` should exceed that of `rejected`; TRL's `margin` column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Where the label came from, such as a judge's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether `chosen` and `rejected` were cut off. No end of turn follows an answer that was.
    #[serde(default, skip_serializing_if = "both_end")]
    pub cut_off: [bool; 2],
    /// What `chosen` and `rejected` hold beside their text, such as calls of tools.
    #[serde(default, skip_serializing_if = "both_plain")]
    pub beside: Box<[Beside; 2]>,
}

fn both_plain(beside: &[Beside; 2]) -> bool {
    beside.iter().all(Beside::is_empty)
}

fn both_end(cut_off: &[bool; 2]) -> bool {
    *cut_off == [false; 2]
}

impl Pair {
    /// The pair with a label, oriented. `probability`: P(`first` is better).
    pub fn labelled(self, probability: f64, source: impl Into<String>) -> Preference {
        let preference = Preference {
            id: self.id,
            prompt: self.prompt,
            chosen: self.first,
            rejected: self.second,
            probability,
            margin: None,
            source: Some(source.into()),
            cut_off: self.cut_off,
            beside: Default::default(),
        };
        preference.oriented()
    }
}

impl Preference {
    /// Both answers as messages.
    pub fn answers(&self) -> [Message; 2] {
        let answer =
            |text: &str, beside: &Beside| Message { beside: beside.clone(), ..Message::assistant(text) };
        [answer(&self.chosen, &self.beside[0]), answer(&self.rejected, &self.beside[1])]
    }

    /// Whether the text is all that both answers say: neither calls a tool or has reasoning beside it.
    pub fn is_plain(&self) -> bool {
        self.beside.iter().all(|beside| beside.tool_calls().is_empty() && beside.reasoning().is_none())
    }

    /// The same preference with the answer that is more likely the better one as `chosen`, so `probability` is at least
    /// ½. If the answers are swapped, `margin` changes its sign. A tie keeps its order.
    ///
    /// ```
    /// use solon_records::{Message, Pair};
    /// let pair = Pair {
    ///     id: "p".into(), prompt: vec![Message::user("?")], first: "no".into(), second: "yes".into(),
    ///     cut_off: [true, false], principle_id: None,
    /// };
    /// let preference = pair.labelled(0.25, "judge");
    /// assert_eq!((preference.chosen.as_str(), preference.probability), ("yes", 0.75));
    /// assert_eq!(preference.cut_off, [false, true]);
    /// ```
    #[must_use]
    pub fn oriented(mut self) -> Self {
        if self.probability < 0.5 {
            std::mem::swap(&mut self.chosen, &mut self.rejected);
            self.cut_off.swap(0, 1);
            self.beside.swap(0, 1);
            self.probability = 1.0 - self.probability;
            self.margin = self.margin.map(|margin| -margin);
        }
        self
    }
}
