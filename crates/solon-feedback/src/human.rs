//! Human preference labels: a session that shows pairs and records votes.
//!
//! Contract: the session reads and writes only the streams it is given, so it runs on a terminal and in a test alike.
//! Which answer is shown as A is drawn by (seed, pair id) and recorded with the vote. Every vote is given to the caller
//! at once, who stores it. Pairs that already have a vote are not shown again. A skipped pair has no vote, and the next
//! session shows it again. Text from models is escaped with [`for_terminal`] and marked by a margin, so that it cannot
//! look like the session's own text.

use std::collections::HashSet;
use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::error::FeedbackError;
use crate::label::prompt_text;
use crate::quote::for_terminal;
use solon_draws::Draws;
use solon_records::Pair;

const HELP: &str = "a or b: the better answer, t: tie, s: skip, u: undo, q: quit";

/// The order in which a pair was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The first answer as A.
    Ab,
    /// The second answer as A.
    Ba,
}

/// The choice, as shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The answer shown as A.
    A,
    /// The answer shown as B.
    B,
    /// Neither is better.
    Tie,
}

/// A person's vote on a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// The pair.
    pub pair_id: String,
    /// The order in which it was shown.
    pub order: Order,
    /// The choice, as shown.
    pub choice: Choice,
    /// P(first is better): 1, 0, or 0.5 for a tie.
    pub probability: f64,
}

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
    /// Votes cast in this session and not undone.
    pub votes: usize,
    /// Pairs skipped in this session.
    pub skipped: usize,
    /// Pairs without a vote, skipped ones included.
    pub left: usize,
}

/// A session over pairs.
#[derive(Debug)]
pub struct HumanSession<'a> {
    pairs: Vec<&'a Pair>,
    seed: u64,
}

enum Command {
    Vote(Choice),
    Skip,
    Undo,
    Quit,
}

impl<'a> HumanSession<'a> {
    /// A session over the pairs that are not in `voted`, in their order.
    pub fn new(pairs: &'a [Pair], seed: u64, voted: &HashSet<String>) -> Result<Self, FeedbackError> {
        let mut seen = HashSet::new();
        if let Some(pair) = pairs.iter().find(|pair| !seen.insert(&pair.id)) {
            return Err(FeedbackError::DuplicateId { id: pair.id.clone(), what: "pairs" });
        }
        Ok(Self { pairs: pairs.iter().filter(|pair| !voted.contains(&pair.id)).collect(), seed })
    }

    /// Runs until all pairs are done, the person quits, or the input ends. `store` gets each event before the next pair
    /// is shown; its error ends the session.
    pub fn run(
        &self,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
        store: &mut dyn FnMut(SessionEvent) -> Result<(), FeedbackError>,
    ) -> Result<SessionEnd, FeedbackError> {
        // One entry for each pair passed so far: true for a vote, false for a skip.
        let mut passed: Vec<bool> = Vec::new();
        let mut show = true;
        loop {
            let pair = self.pairs.get(passed.len()).copied();
            match pair {
                Some(pair) if show => self.show(pair, passed.len(), output)?,
                Some(_) => {}
                None if passed.is_empty() => break,
                None => say(
                    output,
                    "That was the last pair. Press Enter to finish, or type u to undo the last vote or skip. ",
                )?,
            }
            show = true;
            let Some(line) = read_line(input)? else { break };
            match (parse(&line), pair) {
                (Some(Command::Quit), _) => break,
                (Some(Command::Undo), _) => match passed.pop() {
                    Some(true) => {
                        store(SessionEvent::Undone { pair_id: self.pairs[passed.len()].id.clone() })?;
                    }
                    Some(false) => {}
                    None => {
                        say(output, "There is nothing to undo in this session.\n> ")?;
                        show = false;
                    }
                },
                (Some(Command::Vote(choice)), Some(pair)) => {
                    store(SessionEvent::Voted(self.vote(pair, choice)))?;
                    passed.push(true);
                }
                (Some(Command::Skip), Some(_)) => passed.push(false),
                (None, None) if line.trim().is_empty() => break,
                (_, None) => {}
                (None, Some(_)) => {
                    say(output, &format!("Unknown command. {HELP}\n> "))?;
                    show = false;
                }
            }
        }
        let votes = passed.iter().filter(|&&voted| voted).count();
        Ok(SessionEnd { votes, skipped: passed.len() - votes, left: self.pairs.len() - votes })
    }

    fn order(&self, pair: &Pair) -> Order {
        match Draws::new(self.seed, "human/order").item(&pair.id).below(0, 2) {
            0 => Order::Ab,
            _ => Order::Ba,
        }
    }

    fn vote(&self, pair: &Pair, choice: Choice) -> Vote {
        let order = self.order(pair);
        let probability = match (choice, order) {
            (Choice::Tie, _) => 0.5,
            (Choice::A, Order::Ab) | (Choice::B, Order::Ba) => 1.0,
            (Choice::B, Order::Ab) | (Choice::A, Order::Ba) => 0.0,
        };
        Vote { pair_id: pair.id.clone(), order, choice, probability }
    }

    fn show(&self, pair: &Pair, place: usize, output: &mut dyn Write) -> Result<(), FeedbackError> {
        let (a, b) = match self.order(pair) {
            Order::Ab => (&pair.first, &pair.second),
            Order::Ba => (&pair.second, &pair.first),
        };
        let mut text = format!("\nPair {} of {}\n", place + 1, self.pairs.len());
        for (heading, body) in [("Request", &prompt_text(&pair.prompt)), ("A", a), ("B", b)] {
            text.push_str(&format!("\n{heading}\n"));
            for line in for_terminal(body).trim_end().split('\n') {
                text.push_str(&format!("  | {line}\n"));
            }
        }
        say(output, &format!("{text}\n{HELP}\n> "))
    }
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

/// The next line, `None` at the end of the input. Bytes that are not UTF-8 make an unknown command, not an error.
fn read_line(input: &mut dyn BufRead) -> Result<Option<String>, FeedbackError> {
    let mut bytes = Vec::new();
    let read = input
        .read_until(b'\n', &mut bytes)
        .map_err(|source| FeedbackError::Terminal { action: "read", source })?;
    Ok((read > 0).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

fn say(output: &mut dyn Write, text: &str) -> Result<(), FeedbackError> {
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|source| FeedbackError::Terminal { action: "write", source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_records::Message;

    fn pairs(n: usize) -> Vec<Pair> {
        let make = |i: usize| Pair {
            id: format!("p{i}"),
            prompt: vec![Message::user(format!("ask {i}"))],
            first: format!("first {i}"),
            second: format!("second {i}"),
            cut_off: [false; 2],
            principle_id: None,
        };
        (0..n).map(make).collect()
    }

    /// Runs the typed lines; returns the output, the events, and the end.
    fn run(pairs: &[Pair], voted: &[&str], typed: &[u8]) -> (String, Vec<SessionEvent>, SessionEnd) {
        let voted = voted.iter().map(|id| id.to_string()).collect();
        let session = HumanSession::new(pairs, 9, &voted).unwrap();
        let (mut shown, mut events) = (Vec::new(), Vec::new());
        let mut store = |event| {
            events.push(event);
            Ok(())
        };
        let end = session.run(&mut { typed }, &mut shown, &mut store).unwrap();
        (String::from_utf8(shown).unwrap(), events, end)
    }

    #[test]
    fn a_vote_counts_for_the_answer_that_was_shown() {
        let (shown, events, end) = run(&pairs(40), &[], "a\n".repeat(40).as_bytes());
        assert_eq!(end, SessionEnd { votes: 40, skipped: 0, left: 0 });
        let mut first_as_a = 0;
        for (i, event) in events.iter().enumerate() {
            let SessionEvent::Voted(vote) = event else { panic!("{event:?}") };
            let first_is_a = shown.contains(&format!("\nA\n  | first {i}\n"));
            assert_eq!(vote.order, if first_is_a { Order::Ab } else { Order::Ba });
            assert_eq!(vote.probability, if first_is_a { 1.0 } else { 0.0 });
            first_as_a += usize::from(first_is_a);
        }
        assert!((10..=30).contains(&first_as_a), "{first_as_a}");
        let (_, again, _) = run(&pairs(40), &[], "a\n".repeat(40).as_bytes());
        assert_eq!(events, again);
    }

    #[test]
    fn tie_skip_undo_quit_and_nonsense() {
        let (shown, events, end) = run(&pairs(4), &[], b"u\nT\ns\nwhat\n\xff\nb\nu\nu\ntie\nq\na\n");
        assert!(shown.contains("nothing to undo"));
        assert_eq!(shown.matches("Unknown command.").count(), 2);
        let ids: Vec<_> = events
            .iter()
            .map(|event| match event {
                SessionEvent::Voted(vote) => format!("+{}", vote.pair_id),
                SessionEvent::Undone { pair_id } => format!("-{pair_id}"),
            })
            .collect();
        // p0 tie, p1 skipped, p2 voted, undone, the skip of p1 undone, p1 tie, quit.
        assert_eq!(ids, ["+p0", "+p2", "-p2", "+p1"]);
        assert!(
            matches!(&events[3], SessionEvent::Voted(v) if v.probability == 0.5 && v.choice == Choice::Tie)
        );
        assert_eq!(end, SessionEnd { votes: 2, skipped: 0, left: 2 });
    }

    #[test]
    fn a_session_resumes_and_its_last_vote_can_be_undone() {
        let (shown, events, end) = run(&pairs(3), &["p0", "p1"], b"a\nu\nb\n\n");
        assert!(shown.contains("Pair 1 of 1") && !shown.contains("ask 0"));
        assert_eq!(events.len(), 3);
        assert_eq!(end, SessionEnd { votes: 1, skipped: 0, left: 0 });
        let (shown, events, end) = run(&pairs(1), &["p0"], b"");
        assert!(shown.is_empty() && events.is_empty());
        assert_eq!(end.left, 0);
        assert_eq!(run(&pairs(2), &[], b"a\n").2, SessionEnd { votes: 1, skipped: 0, left: 1 });
    }

    #[test]
    fn a_failed_store_ends_the_session_and_shared_ids_are_refused() {
        let pairs = pairs(2);
        let session = HumanSession::new(&pairs, 9, &HashSet::new()).unwrap();
        let mut store = |_| Err(FeedbackError::persist("disk full"));
        let error = session.run(&mut &b"a\na\n"[..], &mut Vec::new(), &mut store).unwrap_err();
        assert!(error.to_string().contains("disk full"), "{error}");
        let twins = [pairs[0].clone(), pairs[0].clone()];
        assert!(HumanSession::new(&twins, 9, &HashSet::new()).is_err());
    }

    #[test]
    fn an_answer_can_neither_command_the_terminal_nor_fake_a_heading() {
        let mut pairs = pairs(1);
        pairs[0].first = "x\u{1b}[2J\r\n\nB\nfake".into();
        let (shown, _, _) = run(&pairs, &[], b"");
        assert!(!shown.contains('\u{1b}') && !shown.contains('\r'));
        assert_eq!(shown.matches("\nB\n").count(), 1);
        assert!(shown.contains("  | fake"));
    }
}
