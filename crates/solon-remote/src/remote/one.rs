//! One question, from holding back what it may cost to its recorded answer.
//!
//! Contract: what failed is tried at the other servers at once, and then again after a while, which is longer each time and
//! drawn, so that many do not come back together. Whatever comes of a request is booked once.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use solon_draws::Draws;

use super::{End, Job, Remote};
use crate::account::{Held, Hold};
use crate::answer::Answer;
use crate::endpoints::Choice;
use crate::halt::{GLANCE, Halt};
use crate::http::{Failure, FailureKind};
use crate::protocol::{self, Form, Misread};
use crate::{Provider, Question, RemoteError, RemoteSettings, Unanswered, UnansweredKind};

/// The longest wait that a server may ask for. Where it asks for more, the asking ends.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Questions that may be given up in a row before all are: then it is the server, not the question.
const MOST_GIVEN_UP: usize = 8;

impl Remote {
    /// Asks one question, again where that may help, and records the answer.
    pub(super) fn ask_one(&self, job: &Job<'_>, halt: &Halt<'_>) -> Result<Answer, End> {
        let draws = Draws::new(0, "remote").item(&job.question.id).index(job.question.sample);
        let (mut attempt, mut tried, mut is_first) = (0_u32, Vec::new(), true);
        loop {
            let hold = self.hold(job.question, halt)?;
            let chosen = self.turn(job.question, &tried, draws.uniform(u64::from(attempt)), halt);
            let at = chosen.inspect_err(|_| self.account.release(&hold))?;
            let form = self.endpoints.form(at, job.question.interface());
            let exchanged = self.exchange(at, form, job.question, is_first, halt);
            is_first = false;
            let failure = match self.settle(at, job.question, &hold, exchanged) {
                Ok(answer) => {
                    if let Some(record) = &self.record {
                        record.keep(job.key, &answer, hold.most()).map_err(End::ForAll)?;
                    }
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            // Half a second, doubled each time; drawn between half and all of it.
            let share = 0.5 + 0.5 * draws.index(1).uniform(u64::from(attempt));
            let backoff = Duration::from_secs_f64(0.5 * f64::from(1_u32 << attempt.min(6)) * share);
            let again = self.after(at, &failure, backoff)?;
            if !tried.contains(&at) {
                tried.push(at);
            }
            if self.endpoints.has_another(Instant::now(), &tried) {
                continue;
            }
            if attempt == self.settings.retries {
                return Err(self.given_up(at, failure));
            }
            attempt += 1;
            tried.clear();
            if halt.wait(again) {
                return Err(End::Stopped);
            }
        }
    }

    /// Holds back what a question may cost, once there is enough.
    pub(crate) fn hold(&self, question: &Question, halt: &Halt<'_>) -> Result<Hold, End> {
        loop {
            match self.account.hold(question) {
                Held::Granted(hold) => return Ok(hold),
                Held::Exhausted(error) => return Err(End::ForAll(error)),
                Held::Wait if halt.wait(GLANCE) => return Err(End::Stopped),
                Held::Wait => {}
            }
        }
    }

    /// Waits until the limits per minute let a question pass.
    pub(crate) fn admit(&self, question: &Question, halt: &Halt<'_>) -> Result<(), End> {
        while let Err(wait) = self.limits.admit(Instant::now(), question.about_tokens()) {
            if halt.wait(wait) {
                return Err(End::Stopped);
            }
        }
        Ok(())
    }

    /// A server that can be asked now, once the limits per minute let the question pass.
    fn turn(&self, question: &Question, tried: &[usize], drawn: f64, halt: &Halt<'_>) -> Result<usize, End> {
        loop {
            let chosen = self.choose(tried, drawn, halt)?;
            // Counted when it is sent, not before a wait: another minute may have begun. And after a wait, the server that was
            // chosen need not be the best one any more.
            let Err(wait) = self.limits.admit(Instant::now(), question.about_tokens()) else {
                return Ok(chosen);
            };
            self.endpoints.give_back(chosen);
            if halt.wait(wait) {
                return Err(End::Stopped);
            }
        }
    }

    /// A server that can be asked now. Waits for one; `drawn` spreads the ends of waits.
    fn choose(&self, tried: &[usize], drawn: f64, halt: &Halt<'_>) -> Result<usize, End> {
        loop {
            let now = Instant::now();
            let (until, at, reason) = match self.endpoints.choose(now, tried) {
                Choice::Ask(at) => return Ok(at),
                Choice::Wait(until, at, reason) => (until, at, reason),
            };
            let wait = until.saturating_duration_since(now);
            if wait > LONGEST_WAIT {
                let reason =
                    format!("{reason}; it asks to wait {} seconds\nhint: ask again then", wait.as_secs());
                return Err(End::ForAll(RemoteError::Server { endpoint: self.endpoints.url(at), reason }));
            }
            if halt.wait(wait + wait.mul_f64(0.1 * drawn)) {
                return Err(End::Stopped);
            }
        }
    }

    /// Sends a question to one server, in another form where the server does not know a parameter.
    pub(crate) fn exchange(
        &self,
        at: usize,
        mut form: Form,
        question: &Question,
        mut is_first: bool,
        halt: &Halt<'_>,
    ) -> Result<(Answer, Form), Failure> {
        let RemoteSettings { provider, model, .. } = &self.settings;
        let (client, longest) = (&self.clients[at], self.settings.longest_wait(question.max_new_tokens));
        let interface = question.interface();
        loop {
            let body = protocol::body(*provider, model, question, form).map_err(|unanswered| {
                Failure::new(FailureKind::Lasting(unanswered.kind), unanswered.reason)
            })?;
            self.account.sent(is_first);
            let response = client.post(protocol::path(*provider, interface), &body, longest)?;
            if response.status == 200 {
                let answer = protocol::read(*provider, interface, &response.text);
                return answer.map(|answer| (answer, form)).map_err(|misread| match misread {
                    Misread::BrokenOff(reason) => client.misread(&response, FailureKind::Passing, &reason),
                    Misread::Malformed(reason) => {
                        let kind = FailureKind::Lasting(UnansweredKind::Malformed);
                        client.misread(&response, kind, &reason)
                    }
                });
            }
            let next = match response.status {
                400 | 422 => form.after(&response.text, !question.options.is_empty()),
                _ => None,
            };
            // Without a place in this minute, the refusal stands.
            match next {
                Some(next) if self.admit(question, halt).is_ok() => form = next,
                _ => return Err(client.refusal(&response, interface)),
            }
            is_first = false;
        }
    }

    /// Books what came of a request.
    pub(crate) fn settle(
        &self,
        at: usize,
        question: &Question,
        hold: &Hold,
        exchanged: Result<(Answer, Form), Failure>,
    ) -> Result<Answer, Failure> {
        match exchanged {
            Ok((answer, form)) => {
                self.account.settle(hold, answer.tokens);
                let asked_for = self.settings.provider == Provider::OpenAi
                    && !question.options.is_empty()
                    && form.log_probs > 0;
                let shows = answer.shows_log_probs().filter(|_| asked_for);
                self.endpoints.replied(at, question.interface(), form, shows);
                self.is_alive();
                Ok(answer)
            }
            Err(failure) => {
                match failure.may_cost {
                    true => self.account.settle(hold, None),
                    false => self.account.release(hold),
                }
                Err(failure)
            }
        }
    }

    /// A server took a question and answered or refused it: what fails next need not fail for all.
    fn is_alive(&self) {
        self.has_replied.store(true, Ordering::Relaxed);
        self.given_up_in_a_row.store(0, Ordering::Relaxed);
    }

    /// What a failure means for its server. Returns how long the question waits before it is asked again.
    fn after(&self, at: usize, failure: &Failure, backoff: Duration) -> Result<Duration, End> {
        let (now, reason) = (Instant::now(), &*failure.reason);
        match failure.kind {
            FailureKind::Lasting(kind) => {
                self.endpoints.refused(at);
                if kind == UnansweredKind::Refused {
                    self.is_alive();
                }
                return Err(End::Alone(Unanswered::new(kind, reason)));
            }
            FailureKind::ForAll => {
                if !self.endpoints.fell_out(at, now, reason) {
                    let (endpoint, reason) = (self.endpoints.url(at), reason.to_owned());
                    return Err(End::ForAll(RemoteError::Server { endpoint, reason }));
                }
                return Ok(Duration::ZERO);
            }
            FailureKind::Busy(wait) => {
                let day = Duration::from_secs(24 * 3600);
                self.endpoints.busy(at, now + wait.unwrap_or(backoff).min(day), reason);
                return Ok(Duration::ZERO);
            }
            FailureKind::Passing => self.endpoints.failed(at, now, false, reason),
            FailureKind::Unreachable => self.endpoints.failed(at, now, true, reason),
        }
        Ok(backoff)
    }

    /// The end of a question that was asked often enough.
    fn given_up(&self, at: usize, failure: Failure) -> End {
        let in_a_row = 1 + self.given_up_in_a_row.fetch_add(1, Ordering::Relaxed);
        let is_dead = in_a_row >= MOST_GIVEN_UP
            || failure.kind == FailureKind::Unreachable && self.endpoints.nobody_lives(Instant::now());
        // Servers that have answered nothing yet are not ones that a single question failed on.
        if is_dead || !self.has_replied.load(Ordering::Relaxed) {
            let endpoint = self.endpoints.url(at);
            let reason = match in_a_row >= MOST_GIVEN_UP {
                true => format!(
                    "{} ({in_a_row} questions in a row got no reply)\nhint: what was answered is kept; give the same again when the \
                     server works",
                    failure.reason
                ),
                false => failure.reason,
            };
            return End::ForAll(RemoteError::Server { endpoint, reason });
        }
        End::Alone(Unanswered::new(UnansweredKind::NoReply, failure.reason))
    }
}
