//! `solon label`: preference pairs labelled by a model or by a person.
//!
//! Contract: `--out` holds the labelled pairs alone, in the input's order, and is replaced at once at the end. Beside it
//! lies what the labels were made from: `OUT.labels.jsonl` with the raw log-probs, or `OUT.votes.jsonl`, which
//! holds a vote before the next pair is shown and from which a later session goes on.

use super::open;
use crate::cli::LabelArgs;
use crate::feedback_model::LocalModel;
use crate::{assets, progress};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use solon_data::export::write_preferences;
use solon_data::files::sha256_parts;
use solon_data::jsonl::write_jsonl;
use solon_data::records::read_preferences;
use solon_draws::Draws;
use solon_feedback::{
    Constitution, FeedbackError, HumanSession, JudgeReport, KnownPair, LabelSettings, SessionEvent, Vote,
    join_known, label_pairs, labeller_training, prompt_text,
};
use solon_records::{Pair, Preference};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Pairs asked about at a time.
const SLOTS: usize = 32;

/// Labels every pair of the file.
pub fn run(args: &LabelArgs) -> Result<()> {
    let pairs: Vec<Pair> = read_preferences(&args.input)?.into_iter().map(unlabelled).collect();
    if args.human { by_person(args, pairs) } else { by_model(args, pairs) }
}

fn by_person(args: &LabelArgs, pairs: Vec<Pair>) -> Result<()> {
    let mut votes = VotesFile::open(&beside(&args.out, "votes"), &pairs)?;
    let voted = votes.voted().map(str::to_owned).collect();
    let session = HumanSession::new(&pairs, args.seed, &voted)?;
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let end = session.run(&mut input, &mut output, &mut |event| match event {
        SessionEvent::Voted(vote) => votes.append(vote),
        SessionEvent::Undone { pair_id } => votes.take_back(&pair_id),
    })?;
    let probabilities: HashMap<String, f64> = votes.probabilities();
    write(&args.out, pairs, &probabilities, "human")?;
    eprintln!("this session: votes: {}, skipped: {}; pairs left: {}", end.votes, end.skipped, end.left);
    if end.left > 0 {
        eprintln!("hint: the same command goes on with them");
    }
    Ok(())
}

fn by_model(args: &LabelArgs, pairs: Vec<Pair>) -> Result<()> {
    let constitution =
        Constitution::open(&assets::path_or_default(args.constitution.as_deref(), assets::CONSTITUTION)?)?;
    // Without worked examples or questions there is nothing known to measure on; the report then says so.
    let known = if constitution.example.is_empty() || constitution.comparison.is_empty() {
        Vec::new()
    } else {
        labeller_training(&constitution, &[], args.ask.into())?.held_out
    };
    let model = open(&args.model, args.weights.weights.into())?;
    let model = LocalModel::new(&model, model.adapter.as_ref(), SLOTS);
    let label = |what: &str, pairs: &[Pair], stage: &str| {
        let bar = progress::bar(what, 2 * pairs.len(), "questions");
        let draws = Draws::new(args.seed, stage);
        let settings = LabelSettings { draws, ask: args.ask.into(), clamp: None };
        let labels = label_pairs(&model, &constitution, pairs, &settings, &mut |n| bar.inc(n as u64));
        bar.finish_and_clear();
        labels
    };
    let known_pairs: Vec<Pair> = known.iter().map(|KnownPair { pair, .. }| pair.clone()).collect();
    let known = join_known(&known, &label("measuring the labeller", &known_pairs, "known")?)?;
    let labels = label("labelling", &pairs, "label")?;
    write_jsonl(&beside(&args.out, "labels"), &labels)?;
    let probabilities = labels.iter().map(|label| (label.pair_id.clone(), label.probability)).collect();
    write(&args.out, pairs, &probabilities, &labeller_name(args))?;
    eprintln!("{}", JudgeReport::new(&known, &labels));
    Ok(())
}

/// Which of the two a file called chosen is not told to the labeller: `first` is only a place.
fn unlabelled(record: Preference) -> Pair {
    Pair {
        id: record.id,
        prompt: record.prompt,
        first: record.chosen,
        second: record.rejected,
        cut_off: record.cut_off,
        principle_id: None,
    }
}

/// Writes the pairs that have a label.
fn write(out: &Path, pairs: Vec<Pair>, probabilities: &HashMap<String, f64>, source: &str) -> Result<()> {
    let labelled: Vec<Preference> = pairs
        .into_iter()
        .filter_map(|pair| {
            let probability = *probabilities.get(&pair.id)?;
            Some(pair.labelled(probability, source))
        })
        .collect();
    write_preferences(out, &labelled)?;
    eprintln!("{} labelled pairs in {}", labelled.len(), out.display());
    Ok(())
}

fn labeller_name(args: &LabelArgs) -> String {
    match &args.model.adapter {
        Some(adapter) => format!("{} with {}", args.model.model, adapter.display()),
        None => args.model.model.clone(),
    }
}

/// `OUT.what.jsonl`.
fn beside(out: &Path, what: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".{what}.jsonl"));
    PathBuf::from(name)
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    vote: Vote,
    pair_sha256: String,
}

/// The votes of a person on disk, one line each.
///
/// An appended vote is on disk when the call returns; one that was taken back is gone. A line that a dying machine left
/// unfinished was never acknowledged and is cut off. A vote keeps a hash of its pair, so that it cannot be counted for
/// other texts that came to stand under the same id. One session at a time holds the file.
struct VotesFile {
    file: File,
    hashes: HashMap<String, String>,
    votes: Vec<Vote>,
    /// The file's length before each of this session's votes.
    undo: Vec<u64>,
    length: u64,
}

impl VotesFile {
    /// Opens the file, or makes it, and reads the votes of earlier sessions on these pairs.
    fn open(path: &Path, pairs: &[Pair]) -> Result<Self> {
        let shown = path.display();
        let mut file = File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot open {shown}"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{shown} is in use by another session; end that one first")
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {shown}"));
            }
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64).with_context(|| format!("cannot write {shown}"))?;
        }
        let hashes: HashMap<String, String> =
            pairs.iter().map(|pair| (pair.id.clone(), hash(pair))).collect();
        let mut votes = Vec::new();
        for (place, line) in bytes[..whole].split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let Line { vote, pair_sha256 } =
                serde_json::from_slice(line).with_context(|| format!("{shown}:{} is no vote", place + 1))?;
            match hashes.get(&vote.pair_id) {
                Some(expected) if *expected != pair_sha256 => bail!(
                    "{shown}:{}: the vote on {} was cast on other texts\nhint: give another --out, or move the votes away",
                    place + 1,
                    vote.pair_id
                ),
                _ => votes.push(vote),
            }
        }
        Ok(Self { file, hashes, votes, undo: Vec::new(), length: whole as u64 })
    }

    /// The pairs with a vote.
    fn voted(&self) -> impl Iterator<Item = &str> {
        self.votes.iter().map(|vote| vote.pair_id.as_str())
    }

    /// P(first is better) by pair.
    fn probabilities(&self) -> HashMap<String, f64> {
        self.votes.iter().map(|vote| (vote.pair_id.clone(), vote.probability)).collect()
    }

    /// Keeps a vote.
    fn append(&mut self, vote: Vote) -> Result<(), FeedbackError> {
        let pair_sha256 = self.hashes.get(&vote.pair_id).cloned().unwrap_or_default();
        let line = Line { vote, pair_sha256 };
        let mut bytes = serde_json::to_vec(&line).map_err(FeedbackError::persist)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).and_then(|()| self.file.sync_data()).map_err(FeedbackError::persist)?;
        self.undo.push(self.length);
        self.length += bytes.len() as u64;
        self.votes.push(line.vote);
        Ok(())
    }

    /// Removes the session's last vote, which is the one on this pair.
    fn take_back(&mut self, pair_id: &str) -> Result<(), FeedbackError> {
        match (self.votes.last(), self.undo.last()) {
            (Some(vote), Some(length)) if vote.pair_id == pair_id => {
                self.file
                    .set_len(*length)
                    .and_then(|()| self.file.sync_data())
                    .map_err(FeedbackError::persist)?;
                self.length = *length;
            }
            _ => {
                return Err(FeedbackError::persist(format!(
                    "{pair_id} is not the last vote of this session"
                )));
            }
        }
        self.undo.pop();
        self.votes.pop();
        Ok(())
    }
}

fn hash(pair: &Pair) -> String {
    sha256_parts([&prompt_text(&pair.prompt), &pair.first, &pair.second])
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_feedback::{Choice, Order};
    use solon_records::Message;

    fn pair(id: &str, first: &str) -> Pair {
        Pair {
            id: id.to_owned(),
            prompt: vec![Message::user("Q")],
            first: first.to_owned(),
            second: "B".to_owned(),
            cut_off: [false; 2],
            principle_id: None,
        }
    }

    fn vote(id: &str) -> Vote {
        Vote { pair_id: id.to_owned(), order: Order::Ba, choice: Choice::A, probability: 0.0 }
    }

    #[test]
    fn votes_outlive_the_session_and_a_line_cut_short_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes.jsonl");
        let pairs = [pair("p", "A"), pair("q", "A")];
        let mut votes = VotesFile::open(&path, &pairs).unwrap();
        assert!(VotesFile::open(&path, &pairs).is_err(), "two sessions would undo each other's votes");
        votes.append(vote("p")).unwrap();
        votes.append(vote("q")).unwrap();
        votes.take_back("q").unwrap();
        assert!(votes.take_back("q").is_err());
        drop(votes);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"pair_id\":\"q\""].concat()).unwrap();
        let mut votes = VotesFile::open(&path, &pairs).unwrap();
        assert_eq!(votes.voted().collect::<Vec<_>>(), ["p"]);
        assert!(votes.take_back("p").is_err(), "it is of an earlier session");
        votes.append(vote("q")).unwrap();
        drop(votes);
        assert_eq!(VotesFile::open(&path, &pairs).unwrap().probabilities().len(), 2);
    }

    #[test]
    fn a_vote_on_other_texts_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes.jsonl");
        VotesFile::open(&path, &[pair("p", "A")]).unwrap().append(vote("p")).unwrap();
        let error = VotesFile::open(&path, &[pair("p", "C")]).err().unwrap().to_string();
        assert!(error.contains("votes.jsonl:1: the vote on p was cast on other texts"), "{error}");
    }
}
