//! `solon label --human`: a session of one person, and labels from the votes of all.
//!
//! Contract: each vote is stored before the next pair is shown, and a later session continues from it. However a session ends, `--out` is
//! made from all votes beside it before the error is returned.

use crate::cli::{LabelArgs, UsageError};
use crate::out::{Out, outln};
use crate::votes::{OwnVotes, StoredVotes};
use anyhow::Result;
use solon_data::export::write_preferences;
use solon_feedback::{Agreement, Annotator, HumanSession, SessionEvent, human_labels};
use solon_records::{Pair, Preference};
use std::io::Write;
use std::path::Path;

/// Runs a session on these pairs.
pub fn run(args: &LabelArgs, pairs: Vec<Pair>) -> Result<()> {
    let person = &args.person;
    let annotator = annotator(person.annotator.as_deref())?;
    let repeats = person.repeats.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&repeats) {
        return Err(UsageError(format!("--repeats is {repeats}; it is a share, from 0 to 1")).into());
    }
    let mut own = OwnVotes::open(&args.out, &annotator, &pairs)?;
    let stored = StoredVotes::read(&args.out, &pairs)?;
    let session = match person.adjudicate {
        true => HumanSession::adjudicate(&pairs, &annotator, args.seed, &stored.votes)?,
        false => HumanSession::label(&pairs, &annotator, args.seed, repeats, &stored.votes)?,
    };
    let mut shown: Box<dyn Write> = match person.json {
        true => Box::new(std::io::stderr().lock()),
        false => Box::new(Out),
    };
    let end = session.run(&mut std::io::stdin().lock(), &mut shown, &mut |event| match event {
        SessionEvent::Voted(vote) => own.append(vote),
        SessionEvent::Undone { pair_id } => own.take_back(&pair_id),
    });
    drop(shown);
    label(&args.out, &pairs, person.json)?;
    let end = end?;
    let again =
        if end.repeats > 0 { format!(" and {} on pairs shown again", end.repeats) } else { String::new() };
    let left = if person.adjudicate { "pairs left to adjudicate" } else { "pairs left" };
    eprintln!("this session: {} votes{again}, {} skipped; {} {left}", end.votes, end.skipped, end.left);
    if end.left > 0 {
        eprintln!("hint: give the same command again to continue");
    }
    Ok(())
}

/// Whoever is named, or the user of this machine.
fn annotator(named: Option<&str>) -> Result<Annotator> {
    let (name, from) = match (named, std::env::var("USER")) {
        (Some(name), _) => (name.to_owned(), "--annotator"),
        (None, Ok(user)) if !user.is_empty() => (user, "the environment variable USER"),
        (None, _) => return Ok(Annotator::default()),
    };
    let wrong = |error| UsageError(format!("{from}: {error}\nhint: give --annotator NAME"));
    Ok(Annotator::new(&name).map_err(wrong)?)
}

/// Makes the labels from all votes beside `out`, and says how far the votes agree: on stderr, or as JSON on stdout.
pub fn label(out: &Path, pairs: &[Pair], json: bool) -> Result<()> {
    let mut stored = StoredVotes::read(out, pairs)?;
    // Others may vote meanwhile. Whoever writes last has then read all that was there.
    let labelled = loop {
        let labelled = write(out, pairs, &stored)?;
        let now = StoredVotes::read(out, pairs)?;
        if now == stored {
            break labelled;
        }
        stored = now;
    };
    eprintln!("{labelled} labelled pairs in {}", out.display());
    if stored.on_others > 0 {
        eprintln!(
            "{} votes are on pairs that the input no longer has; they are kept and not counted",
            stored.on_others
        );
    }
    let agreement = Agreement::of(&stored.votes);
    if json {
        outln!("{}", serde_json::to_string_pretty(&agreement)?);
    } else {
        eprintln!("{agreement}");
    }
    Ok(())
}

/// Writes the pairs that have a label, in their order, and counts them.
fn write(out: &Path, pairs: &[Pair], stored: &StoredVotes) -> Result<usize> {
    let labels = human_labels(&stored.votes);
    let labelled: Vec<Preference> = pairs
        .iter()
        .filter_map(|pair| {
            let label = labels.get(pair.id.as_str())?;
            Some(pair.clone().labelled(label.probability, label.source()))
        })
        .collect();
    write_preferences(out, &labelled)?;
    Ok(labelled.len())
}
