//! A model on a server as a feedback model.
//!
//! Contract: where the servers show the log-probs of a question's options, they are the answer. Where one of them does not, the options are
//! voted on in samples at temperature 1, and an option's probability is the middle of Wilson's interval of its share (of more than two
//! options, the share after as many votes as that interval adds, spread evenly). So they are where the likeliest first token is no
//! option, together with all other questions about the same: their evidence is of one kind. A vote that names
//! no option, or several, is none; a question without any vote has no answer, and the kind of its first fault. Where a reply may still
//! come, the votes are not counted without it. Nothing is guessed. Log-probs of whole answers are not asked for: servers do not give
//! them.

use crate::judge::tell;
use crate::run::{stop_asked, waiting};
use solon_draws::Draws;
use solon_feedback::{
    ChoiceRequest, FeedbackError, FeedbackModel, GenerateRequest, Generated, NoAnswer, NoAnswerKind,
    OptionScores, named_option,
};
use solon_records::{Context, SamplingSettings};
use solon_remote::{Interface, Question, Remote, Reply, Unanswered, UnansweredKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A model on a server.
pub struct RemoteModel<'a> {
    remote: &'a Remote,
    /// What was already said about its servers.
    said: &'a Mutex<BTreeSet<String>>,
    votes: u32,
}

/// Tokens in which an option can be named: "The answer is (B)."
const NAMING_TOKENS: usize = 12;
/// z² of a 95 % interval.
const Z2: f64 = 1.959_963_984_540_054 * 1.959_963_984_540_054;

impl<'a> RemoteModel<'a> {
    /// A server that is asked for so many votes where it shows no log-probs.
    pub fn new(remote: &'a Remote, said: &'a Mutex<BTreeSet<String>>, votes: u32) -> Self {
        Self { remote, said, votes: votes.max(1) }
    }

    /// Says once that several servers are asked for votes because of one.
    fn say_that_all_vote(&self) {
        let what = "one server shows no log-probs, so all are asked for votes";
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if self.remote.usage().endpoints.len() > 1 && said.insert(what.to_owned()) {
            eprintln!("the judge: {what}");
        }
    }

    /// Says why replies did not come. It is not recorded: another time there is another reason, and what was made would differ by it.
    fn say_what_did_not_come(&self, replies: &[Result<Reply, Unanswered>]) {
        let gone = |reply: &Result<Reply, Unanswered>| match reply {
            Err(Unanswered { kind: UnansweredKind::NoReply, reason }) => Some(reason.clone()),
            _ => None,
        };
        let gone: Vec<String> = replies.iter().filter_map(gone).collect();
        if let Some(first) = gone.first() {
            eprintln!("the judge: no reply to {} questions; to the first of them: {first}", gone.len());
        }
    }

    fn ask(&self, questions: &[Question]) -> Result<Vec<Result<Reply, NoAnswer>>, FeedbackError> {
        let asked = waiting(|| self.remote.ask(questions, &stop_asked, &|_| {}));
        let replies = asked.map_err(FeedbackError::model)?;
        tell(self.remote, self.said);
        self.say_what_did_not_come(&replies);
        Ok(replies.into_iter().map(|reply| reply.map_err(missing)).collect())
    }
}

/// Why a server gave no reply, in this program's kinds.
fn missing(unanswered: Unanswered) -> NoAnswer {
    let kind = match unanswered.kind {
        UnansweredKind::NoReply | UnansweredKind::NotAsked => NoAnswerKind::NoReply,
        UnansweredKind::Refused => NoAnswerKind::Refused,
        UnansweredKind::Malformed | UnansweredKind::TooLarge => NoAnswerKind::Malformed,
        UnansweredKind::Empty => NoAnswerKind::Empty,
        UnansweredKind::Declined => NoAnswerKind::Declines,
    };
    match kind {
        NoAnswerKind::NoReply => NoAnswer::new(kind, "none came, however often it was asked"),
        kind => NoAnswer::new(kind, unanswered.reason),
    }
}

impl FeedbackModel for RemoteModel<'_> {
    fn generate(
        &self,
        requests: &[GenerateRequest],
        sampling: &SamplingSettings,
        draws: Draws,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<Generated, NoAnswer>>, FeedbackError> {
        let plain = SamplingSettings {
            temperature: sampling.temperature,
            stop: sampling.stop.clone(),
            ..SamplingSettings::of_length(sampling.max_new_tokens)
        };
        if *sampling != plain {
            let rule = "a server is told `max_new_tokens`, `temperature` and `stop` alone; leave `top_p`, `top_k` and `min_p` out";
            return Err(FeedbackError::Setting { setting: "sampling", value: format!("{sampling:?}"), rule });
        }
        if let Some(request) = requests.iter().find(|request| !request.prefill.is_empty()) {
            let reason = "a server cannot be made to begin its answer with given words".to_owned();
            return Err(FeedbackError::Contract { id: request.id.clone(), reason });
        }
        let questions = requests.iter().map(|request| Question {
            id: request.id.clone(),
            context: request.context.clone(),
            options: Vec::new(),
            max_new_tokens: sampling.max_new_tokens,
            temperature: sampling.temperature,
            stop: sampling.stop.clone(),
            sample: draws.item(&request.id).bits(0),
        });
        let questions: Vec<Question> = questions.collect();
        let replies = self.ask(&questions)?;
        progress(requests.len());
        let generated = replies.into_iter().map(|reply| match reply? {
            Reply::Said { text, .. } if text.trim().is_empty() => {
                Err(NoAnswer::new(NoAnswerKind::Empty, "the reply has no text"))
            }
            Reply::Said { text, truncated } => {
                Ok(Generated { text, truncated, token_ids: Vec::new(), logprobs: Vec::new() })
            }
            Reply::Options(_) => Err(NoAnswer::new(NoAnswerKind::Malformed, "log-probs instead of a text")),
        });
        Ok(generated.collect())
    }

    fn choose(
        &self,
        requests: &[ChoiceRequest],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<OptionScores, NoAnswer>>, FeedbackError> {
        let Some(first) = requests.first() else { return Ok(Vec::new()) };
        // A text goes on after the vote.
        let (interface, end) = match first.context {
            Context::Chat(_) => (Interface::Chat, Vec::new()),
            Context::Text(_) => (Interface::Completions, vec!["\n\n".to_owned()]),
        };
        let question = |place: usize, vote: u32| Question {
            id: format!("{}/{vote}", requests[place].id),
            context: requests[place].context.clone(),
            options: if vote == 0 { requests[place].options.clone() } else { Vec::new() },
            // Of the first question the first token is read alone.
            max_new_tokens: if vote == 0 { 1 } else { NAMING_TOKENS },
            temperature: if vote == 0 { 0.0 } else { 1.0 },
            stop: if vote == 0 { Vec::new() } else { end.clone() },
            sample: u64::from(vote),
        };
        let mut scores: Vec<Option<Result<OptionScores, NoAnswer>>> = vec![None; requests.len()];
        let all: Vec<usize> = (0..requests.len()).collect();
        let firsts: Vec<Question> = all.iter().map(|place| question(*place, 0)).collect();
        let votes_on = |places: &[usize]| -> Vec<Question> {
            places.iter().flat_map(|place| (1..=self.votes).map(|vote| question(*place, vote))).collect()
        };
        let recorded = |questions: &[Question]| self.remote.recorded(questions).map_err(FeedbackError::model);
        let known = recorded(&firsts)?;
        // They were voted on before, by servers that were known to show no log-probs.
        let were_voted = known == 0 && recorded(&votes_on(&all))? == requests.len() * self.votes as usize;
        let shows = || match (were_voted, known == requests.len()) {
            (true, _) => Ok(Some(false)),
            // Nobody is asked what the record knows.
            (_, true) => Ok(self.remote.known_to_show_log_probs(interface)),
            _ => self.remote.shows_log_probs(interface).map_err(FeedbackError::model),
        };
        let mut next = 0;
        while next < requests.len() {
            // Where nothing is known yet, one question alone tells: the others need not be asked in vain.
            let until = match shows()? {
                Some(false) => break,
                None if next == 0 => 1,
                _ => requests.len(),
            };
            for (place, reply) in (next..until).zip(self.ask(&firsts[next..until])?) {
                scores[place] = match reply {
                    Ok(Reply::Options(log_probs)) => Some(Ok(OptionScores::shown(log_probs))),
                    // Samples may say more than the likeliest word.
                    Ok(Reply::Said { .. }) => None,
                    Err(missing) if may_pass(missing.kind) => None,
                    Err(missing) => Some(Err(missing)),
                };
            }
            next = until;
        }
        let none_shown = shows()? == Some(false);
        if none_shown {
            self.say_that_all_vote();
        }
        // What lacks one answer has no use for votes on the others.
        let mut lost: BTreeMap<&str, NoAnswer> = BTreeMap::new();
        for (request, scores) in requests.iter().zip(&scores) {
            if let Some(Err(missing)) = scores {
                lost.entry(&request.about).or_insert_with(|| missing.clone());
            }
        }
        for (request, scores) in requests.iter().zip(&mut scores) {
            if let (None | Some(Ok(_)), Some(missing)) = (&*scores, lost.get(request.about.as_str())) {
                *scores = Some(Err(missing.clone()));
            }
        }
        let is_open = |place: &usize| scores[*place].is_none();
        let voted: BTreeSet<&str> =
            (0..requests.len()).filter(is_open).map(|place| requests[place].about.as_str()).collect();
        for (request, scores) in requests.iter().zip(&mut scores) {
            if matches!(scores, Some(Ok(_))) && (none_shown || voted.contains(request.about.as_str())) {
                *scores = None;
            }
        }
        let open: Vec<usize> = (0..requests.len()).filter(|place| scores[*place].is_none()).collect();
        let votes = votes_on(&open);
        let replies = if votes.is_empty() { Vec::new() } else { self.ask(&votes)? };
        for (place, replies) in open.into_iter().zip(replies.chunks(self.votes as usize)) {
            scores[place] = Some(counted(replies, &requests[place].options));
        }
        progress(requests.len());
        let unasked = || Err(NoAnswer::new(NoAnswerKind::NoReply, "it was not asked"));
        Ok(scores.into_iter().map(|scores| scores.unwrap_or_else(unasked)).collect())
    }
}

/// Whether another sample may have an answer where one had none.
fn may_pass(kind: NoAnswerKind) -> bool {
    matches!(kind, NoAnswerKind::Empty | NoAnswerKind::Malformed | NoAnswerKind::Declines)
}

/// The votes for each option; the first fault where there is none, and where a reply may still come: the same question asked again
/// must not count more votes.
fn counted(replies: &[Result<Reply, NoAnswer>], options: &[String]) -> Result<OptionScores, NoAnswer> {
    let missing = || replies.iter().filter_map(|reply| reply.as_ref().err());
    if let Some(missing) = missing().find(|missing| missing.may_come()) {
        return Err(missing.clone());
    }
    let mut votes = vec![0_u32; options.len()];
    let mut fault = None;
    for reply in replies {
        match reply.clone().and_then(|reply| vote(&reply, options)) {
            Ok(place) => votes[place] += 1,
            Err(missing) => fault = fault.or(Some(missing)),
        }
    }
    let all = f64::from(votes.iter().sum::<u32>());
    if all == 0.0 {
        return Err(fault.unwrap_or_else(|| NoAnswer::new(NoAnswerKind::NoReply, "nobody voted")));
    }
    // Of two options this is the middle of Wilson's interval.
    let share = |votes: &u32| (f64::from(*votes) + Z2 / options.len() as f64) / (all + Z2);
    let log_probs = votes.iter().map(|votes| share(votes).ln()).collect();
    Ok(OptionScores { log_probs, votes })
}

/// The place of the option that a reply names.
fn vote(reply: &Reply, options: &[String]) -> Result<usize, NoAnswer> {
    let Reply::Said { text, truncated } = reply else {
        return Err(NoAnswer::new(NoAnswerKind::Malformed, "log-probs instead of a text"));
    };
    // The word of " (A)".
    let word = |option: &String| option.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    let words: Vec<String> = options.iter().map(word).collect();
    // "No, I can't help with that" is no No.
    let named = match solon_eval::declines(text) {
        true => Err(NoAnswerKind::Declines),
        false => named_option(text, *truncated, &words),
    };
    named.map_err(|kind| {
        let said: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect();
        NoAnswer::new(kind, format!("{said:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Reply, NoAnswer> {
        Ok(Reply::Said { text: text.to_owned(), truncated: false })
    }

    fn letters() -> Vec<String> {
        ["A", "B"].map(str::to_owned).to_vec()
    }

    #[test]
    fn votes_make_the_middle_of_wilsons_interval() {
        let replies = ["A", "A", "B.", "A", "both A and B"].map(said);
        let scores = counted(&replies, &letters()).unwrap();
        assert_eq!(scores.votes, [3, 1]);
        let rate = solon_eval::Rate::new(3, 4);
        let p: Vec<f64> = scores.log_probs.iter().map(|log_prob| log_prob.exp()).collect();
        assert!(
            (p[0] - (rate.low + rate.high) / 2.0).abs() < 1e-12 && (p[0] + p[1] - 1.0).abs() < 1e-12,
            "{p:?}"
        );
    }

    #[test]
    fn no_vote_is_no_answer_of_the_first_faults_kind() {
        let kind = |replies: &[Result<Reply, NoAnswer>]| counted(replies, &letters()).unwrap_err().kind;
        assert_eq!(
            kind(&["I'm sorry, but I can't help with that.", "both A and B"].map(said)),
            NoAnswerKind::Declines
        );
        assert_eq!(kind(&["A or B", ""].map(said)), NoAnswerKind::SeveralOptions);
        assert_eq!(kind(&["", "Hm"].map(said)), NoAnswerKind::Empty);
        let cut = Ok(Reply::Said { text: "Let us look at both".to_owned(), truncated: true });
        assert_eq!(kind(&[cut]), NoAnswerKind::CutOff);
        let gone = || Err(NoAnswer::new(NoAnswerKind::NoReply, "HTTP 500"));
        assert_eq!(kind(&[said("Hm"), gone()]), NoAnswerKind::NoReply);
        // Nor is one counted before all replies are there.
        assert_eq!(kind(&[said("A"), gone(), said("B")]), NoAnswerKind::NoReply);
    }

    #[test]
    fn a_vote_may_continue_a_text() {
        let options = [" (A)", " (B)"].map(str::to_owned);
        assert_eq!(counted(&[" (A)", "(B) [[[", " A"].map(said), &options).unwrap().votes, [2, 1]);
    }
}
