//! A session that shows pairs to a person and records the votes.
//!
//! Contract: the session reads and writes only the streams it is given, so it runs on a terminal and in a test alike. Which answer is
//! shown as A is drawn by (seed, annotator, pair id) and recorded with the vote. Every vote is given to the caller at once, who stores
//! it. Pairs that the annotator has voted on are not shown again, unless they are drawn to be repeated: then once, in the other order,
//! after others, and without a word about it. A skipped pair has no vote, and the next session shows it again. A line counts once it is
//! ended. Text from models is escaped with [`for_terminal`] and marked by a margin, so that it cannot look like the session's own text.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Write};

use solon_draws::Draws;
use solon_records::Pair;

use super::{Annotator, Choice, Order, Pass, Vote, contested};
use crate::error::FeedbackError;
use crate::label::prompt_text;
use crate::quote::for_terminal;

const HELP: &str = "a or b: the better answer, t: tie, s: skip, u: undo, q: quit";

/// A pair comes again after at least this many others.
const APART: usize = 3;
/// Where enough pairs are left, it comes again after 5 to 20 others.
const GAP: std::ops::RangeInclusive<usize> = 5..=20;

/// An event that the caller stores.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEvent {
    /// A vote was cast.
    Voted(Vote),
    /// The vote on this pair was undone.
    Undone {
        /// The pair.
        pair_id: String,
    },
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnd {
    /// Votes cast in this session and not undone, on pairs shown for the first time.
    pub votes: usize,
    /// The same, on pairs shown again.
    pub repeats: usize,
    /// Pairs skipped in this session.
    pub skipped: usize,
    /// Pairs without a vote of this annotator, skipped ones included.
    pub left: usize,
}

/// One time that a pair is shown.
#[derive(Debug)]
struct Showing<'a> {
    pair: &'a Pair,
    pass: Pass,
    order: Order,
}

/// A session of one annotator over pairs.
#[derive(Debug)]
pub struct HumanSession<'a> {
    annotator: Annotator,
    showings: Vec<Showing<'a>>,
    /// Pairs with a vote of this annotator from earlier sessions.
    voted: HashSet<&'a str>,
    /// What is shown after an adjudication: the votes on the pair.
    others: HashMap<&'a str, Vec<&'a Vote>>,
}

enum Command {
    Vote(Choice),
    Skip,
    Undo,
    Quit,
}

impl<'a> HumanSession<'a> {
    /// A session that labels the pairs on which the annotator has no vote yet, in their order. `repeats` of them, a share in [0, 1], are
    /// shown again. `votes` are those stored so far, of whomever.
    ///
    /// # Errors
    /// [`FeedbackError::DuplicateId`] for pairs that share an id; [`FeedbackError::Setting`] for a share that is none.
    pub fn label(
        pairs: &'a [Pair],
        annotator: &Annotator,
        seed: u64,
        repeats: f64,
        votes: &'a [Vote],
    ) -> Result<Self, FeedbackError> {
        unique(pairs)?;
        if !(0.0..=1.0).contains(&repeats) {
            let rule = "it is a share of the pairs; it must be 0 to 1";
            return Err(FeedbackError::Setting { setting: "repeats", value: repeats.to_string(), rule });
        }
        let own = |pass| votes.iter().filter(move |vote| vote.annotator == *annotator && vote.pass == pass);
        let first: HashMap<&str, &Vote> =
            own(Pass::Label).map(|vote| (vote.pair_id.as_str(), vote)).collect();
        let again: HashSet<&str> = own(Pass::Repeat).map(|vote| vote.pair_id.as_str()).collect();
        let drawn = |pair: &Pair| {
            let draws = Draws::new(seed, "human/repeats").item(annotator.name()).item(&pair.id);
            (draws.uniform(0) < repeats).then(|| GAP.start() + draws.below(1, GAP.end() - GAP.start() + 1))
        };
        let gaps: Vec<Option<usize>> = pairs.iter().map(drawn).collect();
        let showing = |(place, pass): (usize, Pass)| {
            let pair = &pairs[place];
            let vote = first.get(pair.id.as_str());
            let order = order("human/order", seed, annotator, pair);
            match pass {
                Pass::Label => vote.is_none().then_some(Showing { pair, pass, order }),
                // The other order is that of the order in which it was shown, whatever seed drew it.
                _ => (!again.contains(pair.id.as_str())).then(|| {
                    let before = vote.and_then(|vote| vote.order).unwrap_or(order);
                    Showing { pair, pass, order: before.other() }
                }),
            }
        };
        let showings = with_repeats(&gaps).into_iter().filter_map(showing).collect();
        let voted = first.keys().copied().collect();
        Ok(Self { annotator: annotator.clone(), showings, voted, others: HashMap::new() })
    }

    /// A session that decides the pairs whose votes are not all for the same answer and that nobody has adjudicated. After each vote it
    /// shows what the annotators said.
    ///
    /// # Errors
    /// [`FeedbackError::DuplicateId`] for pairs that share an id.
    pub fn adjudicate(
        pairs: &'a [Pair],
        annotator: &Annotator,
        seed: u64,
        votes: &'a [Vote],
    ) -> Result<Self, FeedbackError> {
        unique(pairs)?;
        let mut open = contested(votes);
        let mut others: HashMap<&str, Vec<&Vote>> = HashMap::new();
        for vote in votes {
            match vote.pass {
                Pass::Adjudication => _ = open.remove(vote.pair_id.as_str()),
                Pass::Label => others.entry(&vote.pair_id).or_default().push(vote),
                Pass::Repeat => {}
            }
        }
        let showings = pairs.iter().filter(|pair| open.contains(pair.id.as_str())).map(|pair| Showing {
            pair,
            pass: Pass::Adjudication,
            order: order("human/adjudicate", seed, annotator, pair),
        });
        let showings = showings.collect();
        Ok(Self { annotator: annotator.clone(), showings, voted: HashSet::new(), others })
    }

    /// Runs until all pairs are done, the person quits, or the input ends. `store` gets each event before the next pair
    /// is shown; its error ends the session.
    ///
    /// # Errors
    /// [`FeedbackError::Terminal`] if a stream fails, and those of `store`.
    pub fn run(
        &self,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
        store: &mut dyn FnMut(SessionEvent) -> Result<(), FeedbackError>,
    ) -> Result<SessionEnd, FeedbackError> {
        let mut passed = Passed(Vec::new());
        let mut show = true;
        loop {
            let next = self.next(&passed);
            let showing = next.map(|place| &self.showings[place]);
            match showing {
                Some(showing) if show => self.show(showing, &passed, output)?,
                Some(_) => {}
                None if passed.0.is_empty() => break,
                None => say(
                    output,
                    "That was the last pair. Press Enter to finish, or type u to undo the last vote or skip. ",
                )?,
            }
            show = true;
            let Some(line) = read_line(input)? else { break };
            match (parse(&line), next, showing) {
                (Some(Command::Quit), ..) => break,
                (Some(Command::Undo), ..) => match passed.0.pop() {
                    Some((place, true)) => {
                        store(SessionEvent::Undone { pair_id: self.showings[place].pair.id.clone() })?;
                    }
                    Some((_, false)) => {}
                    None => {
                        say(output, "There is nothing to undo in this session.\n> ")?;
                        show = false;
                    }
                },
                (Some(Command::Vote(choice)), Some(place), Some(Showing { pair, pass, order })) => {
                    let vote = Vote::new(&pair.id, self.annotator.clone(), *pass, Some(*order), choice);
                    store(SessionEvent::Voted(vote))?;
                    passed.0.push((place, true));
                    self.show_others(&self.showings[place], output)?;
                }
                (Some(Command::Skip), Some(place), _) => passed.0.push((place, false)),
                (None, None, _) if line.trim().is_empty() => break,
                (_, None, _) => {}
                (_, Some(_), _) => {
                    say(output, &format!("Unknown command. {HELP}\n> "))?;
                    show = false;
                }
            }
        }
        Ok(self.end(&passed))
    }

    fn end(&self, passed: &Passed) -> SessionEnd {
        let mut end = SessionEnd { votes: 0, repeats: 0, skipped: 0, left: 0 };
        for (place, voted) in &passed.0 {
            match (voted, self.showings[*place].pass) {
                (false, _) => end.skipped += 1,
                (true, Pass::Repeat) => end.repeats += 1,
                (true, _) => end.votes += 1,
            }
        }
        let all = self.showings.iter().filter(|showing| showing.pass != Pass::Repeat).count();
        end.left = all - end.votes;
        end
    }

    /// The place of the next showing.
    fn next(&self, passed: &Passed) -> Option<usize> {
        let start = passed.0.last().map_or(0, |(place, _)| place + 1);
        (start..self.showings.len()).find(|place| {
            let Showing { pair, pass, .. } = &self.showings[*place];
            *pass != Pass::Repeat || self.may_come_again(passed, pair)
        })
    }

    /// Whether a pair may be shown again: what was skipped the first time cannot be compared with itself, and after skips a pair may be
    /// too near to its first time.
    fn may_come_again(&self, passed: &Passed, pair: &Pair) -> bool {
        let first = passed.0.iter().position(|(place, _)| self.showings[*place].pair.id == pair.id);
        match first {
            Some(at) => passed.0[at].1 && passed.0.len() - at > APART,
            None => self.voted.contains(pair.id.as_str()),
        }
    }

    fn show(
        &self,
        showing: &Showing<'_>,
        passed: &Passed,
        output: &mut dyn Write,
    ) -> Result<(), FeedbackError> {
        let Showing { pair, pass, order } = showing;
        let (a, b) = match order {
            Order::Ab => (&pair.first, &pair.second),
            Order::Ba => (&pair.second, &pair.first),
        };
        let what = if *pass == Pass::Adjudication { ", on which votes differ" } else { "" };
        let mut text = format!("\nPair {} of {}{what}\n", passed.0.len() + 1, self.showings.len());
        for (heading, body) in [("Request", &prompt_text(&pair.prompt)), ("A", a), ("B", b)] {
            text.push_str(&format!("\n{heading}\n"));
            for line in for_terminal(body).trim_end().split('\n') {
                text.push_str(&format!("  | {line}\n"));
            }
        }
        say(output, &format!("{text}\n{HELP}\n> "))
    }

    /// After an adjudication: what the annotators said, in the letters of this showing.
    fn show_others(&self, showing: &Showing<'_>, output: &mut dyn Write) -> Result<(), FeedbackError> {
        let Some(votes) = self.others.get(showing.pair.id.as_str()) else { return Ok(()) };
        let said = votes.iter().map(|vote| {
            let said = match vote.preferred().as_shown(showing.order) {
                Choice::A => "A",
                Choice::B => "B",
                Choice::Tie => "tie",
            };
            format!("{} {said}", vote.annotator)
        });
        say(output, &format!("The votes were: {}\n", said.collect::<Vec<_>>().join(", ")))
    }
}

/// The places of showings passed so far, in order: true for a vote, false for a skip.
struct Passed(Vec<(usize, bool)>);

fn unique(pairs: &[Pair]) -> Result<(), FeedbackError> {
    let mut seen = HashSet::new();
    match pairs.iter().find(|pair| !seen.insert(&pair.id)) {
        Some(pair) => Err(FeedbackError::DuplicateId { id: pair.id.clone(), what: "pairs" }),
        None => Ok(()),
    }
}

fn order(stage: &str, seed: u64, annotator: &Annotator, pair: &Pair) -> Order {
    match Draws::new(seed, stage).item(annotator.name()).item(&pair.id).below(0, 2) {
        0 => Order::Ab,
        _ => Order::Ba,
    }
}

/// The places of all pairs in their order, and again after a gap those that have one. Near the end a gap may be shorter, but not
/// below [`APART`]; what is too near to the end does not come again.
fn with_repeats(gaps: &[Option<usize>]) -> Vec<(usize, Pass)> {
    let mut all = Vec::with_capacity(gaps.len());
    let mut shown_at = Vec::with_capacity(gaps.len());
    // Each repeat with the place of the pair after which it is due.
    let mut due: Vec<(usize, usize)> =
        gaps.iter().enumerate().filter_map(|(place, gap)| Some((place + (*gap)?, place))).collect();
    due.sort_unstable();
    let mut due = due.into_iter().peekable();
    for place in 0..gaps.len() {
        shown_at.push(all.len());
        all.push((place, Pass::Label));
        while let Some((_, repeated)) = due.next_if(|(after, _)| *after == place) {
            all.push((repeated, Pass::Repeat));
        }
    }
    // In their order, so that as many as possible are far enough from their first time.
    let mut rest: Vec<usize> = due.map(|(_, repeated)| repeated).collect();
    rest.sort_unstable();
    for repeated in rest {
        if all.len() - shown_at[repeated] > APART {
            all.push((repeated, Pass::Repeat));
        }
    }
    all
}

fn parse(line: &str) -> Option<Command> {
    match line.trim().to_lowercase().as_str() {
        "a" => Some(Command::Vote(Choice::A)),
        "b" => Some(Command::Vote(Choice::B)),
        "t" | "tie" => Some(Command::Vote(Choice::Tie)),
        "s" | "skip" => Some(Command::Skip),
        "u" | "undo" => Some(Command::Undo),
        "q" | "quit" => Some(Command::Quit),
        _ => None,
    }
}

/// The next line, `None` at the end of the input. A line that the end cuts off was never confirmed and is none. Bytes that are not UTF-8
/// make an unknown command, not an error.
fn read_line(input: &mut dyn BufRead) -> Result<Option<String>, FeedbackError> {
    let mut bytes = Vec::new();
    input
        .read_until(b'\n', &mut bytes)
        .map_err(|source| FeedbackError::Terminal { action: "read", source })?;
    Ok((bytes.last() == Some(&b'\n')).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

fn say(output: &mut dyn Write, text: &str) -> Result<(), FeedbackError> {
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|source| FeedbackError::Terminal { action: "write", source })
}

#[cfg(test)]
mod tests;
