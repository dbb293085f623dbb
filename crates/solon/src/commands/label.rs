//! `solon label`: preference pairs labelled by a model or by a person.
//!
//! Contract: `--out` holds only the labelled pairs, in the input's order, and is replaced atomically at the end. Beside
//! it is the raw material of the labels: `OUT.labels.jsonl` with the raw log-probs, or `OUT.votes.jsonl`. Each vote is
//! stored there before the next pair is shown, and a later session continues from it. A model's labels are made by a
//! recipe of one stage. Its run is kept in `OUT.run`, so that the same command resumes it.

use super::one_stage::OneStage;
use crate::assets;
use crate::cli::LabelArgs;
use crate::items::Labelled;
use crate::stages::judged;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use solon_data::export::{write_labels, write_preferences};
use solon_data::files::sha256_parts;
use solon_data::jsonl::write_jsonl;
use solon_data::ledger::TypedItem;
use solon_data::records::{LabelRow, read_pairs};
use solon_feedback::{FeedbackError, HumanSession, Label, SessionEvent, Vote, prompt_text};
use solon_records::{Pair, Preference};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Labels every pair of the file.
pub fn run(args: &LabelArgs) -> Result<()> {
    if args.human { by_person(args) } else { by_model(args) }
}

fn by_person(args: &LabelArgs) -> Result<()> {
    let pairs = read_pairs(&args.input)?;
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
    eprintln!("this session: {} votes, {} skipped; {} pairs left", end.votes, end.skipped, end.left);
    if end.left > 0 {
        eprintln!("hint: give the same command again to continue");
    }
    Ok(())
}

fn by_model(args: &LabelArgs) -> Result<()> {
    let constitution = assets::path_or_default(args.constitution.as_deref(), assets::CONSTITUTION)?;
    let stage = OneStage::new("label", &args.model)?
        .recipe(|recipe| {
            recipe.seed = args.seed;
            recipe.weights = args.weights.weights;
            recipe.constitution = Some(constitution);
        })
        .judge("labeller", args.judge.as_ref(), &args.limits)
        .key("ask", Some(args.ask.name()))
        // Whoever labels a file wants to see the labels; the judge report is printed with them.
        .key("gate", Some(false))
        .file("pairs", &args.input)?
        .set(&args.set)?;
    let mut folder = args.out.as_os_str().to_owned();
    folder.push(".run");
    stage.run(Some(Path::new(&folder)), |run, _| {
        let read = run.reader("label")?;
        let mut items: Vec<TypedItem<Labelled>> = read.own_with_dropped()?;
        items.retain(|item| !item.data.known);
        let labels: Vec<&Label> = items.iter().filter_map(|item| item.data.label.as_ref()).collect();
        write_jsonl(&beside(&args.out, "labels"), &labels)?;
        let rows: Vec<LabelRow> = items.iter().map(|item| row(&item.data)).collect();
        write_labels(&args.out, &rows)?;
        let unlabelled = items.iter().filter(|item| item.data.unlabelled.is_some()).count();
        eprintln!("{} labelled pairs in {}", items.len() - unlabelled, args.out.display());
        if unlabelled > 0 {
            eprintln!("{unlabelled} pairs have no label; their rows say why, and are left out where the file is trained on");
        }
        eprintln!("{}", judged(&read)?.report);
        Ok(())
    })
}

/// A label as a row of the file.
fn row(labelled: &Labelled) -> LabelRow {
    let preference = labelled.preference.clone();
    let Some(missing) = &labelled.unlabelled else { return LabelRow::Labelled(preference) };
    let Preference { id, prompt, chosen: first, rejected: second, cut_off, .. } = preference;
    let pair = Pair { id, prompt, first, second, cut_off, principle_id: None };
    LabelRow::Unlabelled { pair, reason: missing.to_string() }
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

/// The path `OUT.WHAT.jsonl`.
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
/// An appended vote is on disk when the call returns; an undone vote is removed. A line that a crash left unfinished
/// was never confirmed and is cut off. A vote keeps a hash of its pair, so that it is not counted for other texts with
/// the same id. Only one session at a time can open the file.
struct VotesFile {
    file: File,
    hashes: HashMap<String, String>,
    votes: Vec<Vote>,
    /// The file's length before each of this session's votes.
    undo: Vec<u64>,
    length: u64,
}

impl VotesFile {
    /// Opens the file, or creates it, and reads the votes of earlier sessions on these pairs.
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
                bail!("{shown} is in use by another session\nhint: end that session first")
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
            let Line { vote, pair_sha256 } = serde_json::from_slice(line)
                .with_context(|| format!("{shown}:{} is not a vote", place + 1))?;
            match hashes.get(&vote.pair_id) {
                Some(expected) if *expected != pair_sha256 => bail!(
                    "{shown}:{}: the vote on {} belongs to a pair with other texts\nhint: give another --out, or move this file away",
                    place + 1,
                    vote.pair_id
                ),
                _ => votes.push(vote),
            }
        }
        Ok(Self { file, hashes, votes, undo: Vec::new(), length: whole as u64 })
    }

    /// The ids of pairs with a vote.
    fn voted(&self) -> impl Iterator<Item = &str> {
        self.votes.iter().map(|vote| vote.pair_id.as_str())
    }

    /// P(first is better) by pair id.
    fn probabilities(&self) -> HashMap<String, f64> {
        self.votes.iter().map(|vote| (vote.pair_id.clone(), vote.probability)).collect()
    }

    /// Stores a vote.
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
        assert!(error.contains("votes.jsonl:1: the vote on p belongs to a pair with other texts"), "{error}");
    }
}
