//! The rows of a file as a model's tokens.

use crate::tokenise::{conversation, cut};
use serde_json::{Value, json};
use solon_data::Place;
use solon_data::check::Opened;
use solon_data::records::{DataFile, LabelRow};
use solon_model::ModelConfig;
use solon_records::Message;
use solon_text::{ChatTokenizer, Closing, Encoded, TextError};

/// What was counted.
#[derive(Default)]
pub struct Tokens {
    /// Of each row, or of each answer with its prompt; ascending.
    lengths: Vec<usize>,
    /// Tokens that are learnt, of all.
    learnt: usize,
    /// The model's context.
    context: usize,
    /// Rows that do not fit it.
    pub too_long: Vec<Place>,
    /// Pairs that fit it, but not for a reward model, which also reads how the template closes the conversation.
    pub too_long_for_reward: Vec<Place>,
    /// Rows that the template refuses, with its words.
    pub refused: Vec<String>,
    /// Rows with two beginnings of sequence at their start.
    pub two_beginnings: Vec<Place>,
    /// Rows with two ends of turn at their end.
    pub two_ends: Vec<Place>,
}

impl Tokens {
    /// Encodes every row as training would.
    pub fn of(file: &Opened, text: &ChatTokenizer, config: &ModelConfig) -> Self {
        let mut counted = Self { context: config.max_position_embeddings, ..Self::default() };
        let closing = matches!(file, Opened::Preferences(_)).then(|| text.closing(text.padding_to_score()));
        for (place, sequences) in sequences(file, text) {
            match sequences {
                Ok(sequences) => counted.add(place, sequences, text, closing.as_ref()),
                Err(error) => {
                    let what = error.to_string();
                    counted.refused.push(format!("{place}: {}", what.lines().next().unwrap_or_default()));
                }
            }
        }
        counted.lengths.sort_unstable();
        counted
    }

    fn add(
        &mut self,
        place: Place,
        sequences: Vec<(&str, Encoded)>,
        text: &ChatTokenizer,
        closing: Option<&Closing>,
    ) {
        let twice = |id: Option<u32>, two: &[u32]| two.len() == 2 && two.iter().all(|one| Some(*one) == id);
        let any = |fault: &dyn Fn(&Encoded) -> bool| sequences.iter().any(|(_, one)| fault(one));
        if any(&|one| one.ids.len() > self.context) {
            self.too_long.push(place);
        } else if closing.is_some_and(|closing| any(&|one| closing.close(&one.ids).len() > self.context)) {
            self.too_long_for_reward.push(place);
        }
        if any(&|one| twice(text.bos(), &one.ids[..one.ids.len().min(2)])) {
            self.two_beginnings.push(place);
        }
        let ends = |one: &Encoded| {
            let last = &one.ids[one.ids.len().saturating_sub(2)..];
            one.loss_mask.ends_with(&[true, true]) && twice(Some(text.end_of_turn()), last)
        };
        if any(&ends) {
            self.two_ends.push(place);
        }
        for (_, one) in sequences {
            self.learnt += one.loss_mask.iter().filter(|learnt| **learnt).count();
            self.lengths.push(one.ids.len());
        }
    }

    /// The length below which this share of the rows lies.
    fn quantile(&self, share: f64) -> usize {
        let at = (self.lengths.len().saturating_sub(1) as f64 * share).round() as usize;
        self.lengths.get(at).copied().unwrap_or(0)
    }

    pub fn in_words(&self) -> String {
        let all: usize = self.lengths.iter().sum();
        format!(
            "  tokens   {all}, of which {} are learnt; a sequence has {} to {}, median {}, 95 % below {}; the context is {}\n",
            self.learnt,
            self.quantile(0.0),
            self.quantile(1.0),
            self.quantile(0.5),
            self.quantile(0.95),
            self.context
        )
    }

    pub fn json(&self) -> Value {
        json!({
            "all": self.lengths.iter().sum::<usize>(), "learnt": self.learnt, "context": self.context,
            "min": self.quantile(0.0), "median": self.quantile(0.5), "p95": self.quantile(0.95), "max": self.quantile(1.0),
        })
    }
}

/// What a row is trained on: each sequence with its name, which is empty where there is one.
type Sequences = Result<Vec<(&'static str, Encoded)>, TextError>;

/// The rows of a file as training would encode them. Nothing of a prompt is learnt.
pub fn sequences<'a>(
    file: &'a Opened,
    text: &'a ChatTokenizer,
) -> Box<dyn Iterator<Item = (Place, Sequences)> + 'a> {
    match file {
        Opened::Demonstrations(file) => rows(file, |row| Ok(vec![("", conversation(text, row)?)])),
        Opened::Preferences(file) => rows(file, |row| pair(row, text)),
        Opened::Unpaired(file) => rows(file, |row| Ok(vec![("", conversation(text, &row.conversation)?)])),
        Opened::Prompts(file) => rows(file, |row| {
            let ids = text.prompt_ids(&row.messages)?;
            Ok(vec![("", Encoded { loss_mask: vec![false; ids.len()], ids })])
        }),
    }
}

fn rows<'a, T>(
    file: &'a DataFile<T>,
    encode: impl Fn(&'a T) -> Sequences + 'a,
) -> Box<dyn Iterator<Item = (Place, Sequences)> + 'a> {
    let rows = file.records.iter().zip(&file.places);
    Box::new(rows.map(move |(record, place)| (*place, encode(record))))
}

/// Both answers of a pair, each after the prompt. Without a label nothing of it is learnt.
fn pair(row: &LabelRow, text: &ChatTokenizer) -> Sequences {
    let (prompt, answers, cut_off, names) = match row {
        LabelRow::Labelled(pair) => (&pair.prompt, pair.answers(), pair.cut_off, ["chosen", "rejected"]),
        LabelRow::Unlabelled { pair, .. } => {
            let answers = [&pair.first, &pair.second].map(Message::assistant);
            (&pair.prompt, answers, pair.cut_off, ["first", "second"])
        }
    };
    let learnt = matches!(row, LabelRow::Labelled(_));
    let (prompt, made) = text.turns_ids(prompt, &answers)?;
    let sequence = |((name, mut answer), cut_off): ((&'static str, Vec<u32>), bool)| {
        cut(&mut answer, cut_off);
        let loss_mask = [vec![false; prompt.len()], vec![learnt; answer.len()]].concat();
        (name, Encoded { ids: [&prompt[..], &answer].concat(), loss_mask })
    };
    Ok(names.into_iter().zip(made).zip(cut_off).map(sequence).collect())
}
