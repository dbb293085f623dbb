//! `solon label --import`: votes made elsewhere become votes and labels like any others.
//!
//! Contract: rows with the same prompt and the same two answers, in whatever order, are one pair, and each annotator has at most one vote
//! on it; what contradicts this is refused with its rows. Without `--input` the pairs go to `OUT.pairs.jsonl`, so that people can go on
//! with them (`--human --input OUT.pairs.jsonl --out OUT`).

use super::people::label;
use crate::cli::{LabelArgs, UsageError};
use crate::votes::{beside, write_imported};
use anyhow::{Result, bail};
use solon_data::export::write_labels;
use solon_data::records::{ForeignVotes, LabelRow, VotedPair, read_foreign_votes};
use solon_feedback::{Annotator, Order, Pass, Preferred, Vote, prompt_text};
use solon_records::Pair;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Imports a file.
pub fn run(args: &LabelArgs, file: &Path) -> Result<()> {
    let unnamed = args.person.annotator.as_deref().unwrap_or("imported");
    let unnamed = Annotator::new(unnamed).map_err(|error| UsageError(format!("--annotator: {error}")))?;
    let foreign = read_foreign_votes(file, &args.person.ignore_columns)?;
    let mut taken = match args.input.is_empty() {
        false => Taken::among(super::pairs(&args.input)?, unnamed),
        true => Taken::new(unnamed),
    };
    for row in &foreign.pairs {
        taken.take(row).map_err(|error| error.context(format!("{}, row {}", file.display(), row.row)))?;
    }
    let Taken { pairs, votes, annotators, .. } = taken;
    if votes.is_empty() {
        bail!("{} has no votes", file.display());
    }
    let count = votes.len();
    write_imported(&args.out, &pairs, votes)?;
    if args.input.is_empty() {
        let path = beside(&args.out, "pairs");
        let row = |pair: &Pair| LabelRow::Unlabelled {
            pair: pair.clone(),
            reason: "imported to be labelled".into(),
        };
        write_labels(&path, &pairs.iter().map(row).collect::<Vec<_>>())?;
        eprintln!("{} pairs in {}", pairs.len(), path.display());
    }
    eprintln!("{count} votes of {} annotators from {}", annotators.len(), file.display());
    left_out(&foreign);
    label(&args.out, &pairs, args.person.json)
}

/// Says what of the file has no vote.
fn left_out(foreign: &ForeignVotes) {
    let without = foreign.pairs.iter().filter(|row| row.votes.is_empty()).count();
    if without > 0 {
        eprintln!("{without} rows have no vote");
    }
    if foreign.not_submitted > 0 {
        eprintln!("{} responses are left out because they were not submitted", foreign.not_submitted);
    }
}

/// What was taken from a file so far.
struct Taken {
    /// Whose vote it is where the file does not say.
    unnamed: Annotator,
    /// Whether the pairs are given, so that no row may add one.
    given: bool,
    pairs: Vec<Pair>,
    /// The place of each pair by its texts: the prompt, and both answers in the order of the alphabet.
    places: HashMap<[String; 3], usize>,
    ids: HashSet<String>,
    votes: Vec<Vote>,
    annotators: HashSet<Annotator>,
    /// The row of each vote.
    rows: HashMap<(Annotator, usize), usize>,
}

impl Taken {
    fn new(unnamed: Annotator) -> Self {
        Self {
            unnamed,
            given: false,
            pairs: Vec::new(),
            places: HashMap::new(),
            ids: HashSet::new(),
            votes: Vec::new(),
            annotators: HashSet::new(),
            rows: HashMap::new(),
        }
    }

    fn among(pairs: Vec<Pair>, unnamed: Annotator) -> Self {
        let key = |(place, pair): (usize, &Pair)| {
            (texts(&prompt_text(&pair.prompt), &pair.first, &pair.second), place)
        };
        let places = pairs.iter().enumerate().map(key).collect();
        Self { given: true, places, pairs, ..Self::new(unnamed) }
    }

    fn take(&mut self, row: &VotedPair) -> Result<()> {
        let place = self.place(row)?;
        let pair = &self.pairs[place];
        let turned = pair.first != row.first;
        for vote in &row.votes {
            let annotator = match &vote.annotator {
                Some(name) => Annotator::new(name)?,
                None => self.unnamed.clone(),
            };
            if let Some(before) = self.rows.insert((annotator.clone(), place), row.row) {
                bail!(
                    "{annotator} has voted on this pair before, in row {before}\nhint: take one of the two out; if they are of different people, add an `annotator` column"
                );
            }
            let preferred = match (vote.probability, turned) {
                (0.5, _) => Preferred::Tie,
                (1.0, false) | (0.0, true) => Preferred::First,
                _ => Preferred::Second,
            };
            self.annotators.insert(annotator.clone());
            self.votes.push(Vote::new(&pair.id, annotator, Pass::Label, None, preferred.as_shown(Order::Ab)));
        }
        Ok(())
    }

    /// The place of the row's pair, which is added unless the pairs are given.
    fn place(&mut self, row: &VotedPair) -> Result<usize> {
        let texts = texts(&prompt_text(&row.prompt), &row.first, &row.second);
        if let Some(place) = self.places.get(&texts) {
            let id = &self.pairs[*place].id;
            return match &row.id {
                Some(other) if other != id => bail!(
                    "its pair has the id {other}, and the same pair has the id {id} before\nhint: give a pair one id, or `--ignore-column id` if it numbers the votes"
                ),
                _ => Ok(*place),
            };
        }
        if self.given {
            bail!(
                "its pair is not in --input\nhint: the prompt and both answers must be the same to the letter"
            );
        }
        let id = row.id.clone().unwrap_or_else(|| format!("line-{}", row.row));
        if !self.ids.insert(id.clone()) {
            bail!("its id {id} is that of a pair with other texts");
        }
        self.pairs.push(Pair {
            id,
            prompt: row.prompt.clone(),
            first: row.first.clone(),
            second: row.second.clone(),
            cut_off: [false; 2],
            principle_id: None,
        });
        self.places.insert(texts, self.pairs.len() - 1);
        Ok(self.pairs.len() - 1)
    }
}

fn texts(prompt: &str, first: &str, second: &str) -> [String; 3] {
    let mut answers = [first, second];
    answers.sort_unstable();
    [prompt, answers[0], answers[1]].map(str::to_owned)
}
