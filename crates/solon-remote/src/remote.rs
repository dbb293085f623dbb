//! Asks a model on servers.
//!
//! Contract: [`crate`] says it. Each question goes through the same steps: what it may cost is held back, a limit per minute lets
//! it pass, a server is chosen, the reply is read and recorded. What failed is tried at the other servers at once, and then
//! again after a while, which is longer each time and drawn, so that many do not come back together.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use solon_draws::Draws;

use crate::account::{Account, Held, Hold, Tokens, Usage};
use crate::address::Address;
use crate::answer::Answer;
use crate::endpoints::{Choice, Endpoints};
use crate::halt::{GLANCE, Halt};
use crate::http::{Client, Failure, FailureKind};
use crate::limits::Limits;
use crate::name;
use crate::probe::Capabilities;
use crate::protocol::{self, Form, Key, Misread};
use crate::record::Record;
use crate::{Question, RemoteError, RemoteSettings, Reply, Unanswered, UnansweredKind};

/// The longest wait that a server may ask for. Where it asks for more, the asking ends.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A model on one or more servers.
pub struct Remote {
    pub(crate) settings: RemoteSettings,
    /// In the order of the addresses, as the clients.
    pub(crate) endpoints: Endpoints,
    pub(crate) clients: Vec<Client>,
    pub(crate) account: Account,
    pub(crate) capabilities: Mutex<Option<Capabilities>>,
    limits: Limits,
    record: Option<Record>,
    /// Some question was answered, now or by the record: a failure of one need not be one of all.
    has_replied: AtomicBool,
    /// Two calls at a time would ask the same question twice.
    asking: Mutex<()>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Remote").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A question to send, and the places of all that ask the same.
struct Job<'a> {
    key: Key,
    question: &'a Question,
    places: Vec<usize>,
}

/// Why there is no answer.
pub(crate) enum End {
    /// To this question.
    Alone(Unanswered),
    /// To any question.
    ForAll(RemoteError),
    /// The asking has ended.
    Stopped,
}

impl Remote {
    /// A model at the addresses of its settings. Opens the record; sends nothing.
    pub fn new(settings: RemoteSettings) -> Result<Self, RemoteError> {
        settings.check()?;
        let with_key = settings.key.is_some();
        let addresses: Vec<Address> =
            settings.urls.iter().map(|url| Address::read(url, with_key)).collect::<Result<_, _>>()?;
        let record = settings
            .answers
            .as_ref()
            .map(|path| Record::open(path, settings.provider, &settings.model))
            .transpose()?;
        let (earlier, answers) =
            record.as_ref().map_or((Tokens::default(), 0), |record| (record.earlier, record.answers));
        Ok(Self {
            endpoints: Endpoints::new(addresses.iter().map(|address| address.base.clone())),
            clients: addresses.iter().map(|address| Client::new(&settings, address)).collect(),
            account: Account::new(settings.budget.clone(), earlier),
            capabilities: Mutex::new(None),
            limits: Limits::new(settings.requests_per_minute, settings.tokens_per_minute),
            record,
            has_replied: AtomicBool::new(answers > 0),
            asking: Mutex::new(()),
            settings,
        })
    }

    /// What was asked so far, and what it took.
    pub fn usage(&self) -> Usage {
        self.account.usage(self.endpoints.usage(Instant::now()))
    }

    /// Asks all questions, several at a time; the replies are in their order. What is recorded is not asked, and questions that
    /// are the same are asked once. `progress` gets the number of questions that are done since its last call. Once `stop` says
    /// so, what is not asked yet is not asked; requests under way end first, so that no reply is lost.
    ///
    /// Errors where no question will get a reply, where the servers have never replied to one, and where the budget is used up.
    /// What was answered before is recorded.
    pub fn ask(
        &self,
        questions: &[Question],
        stop: &(dyn Fn() -> bool + Sync),
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Result<Reply, Unanswered>>, RemoteError> {
        let _alone = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut replies, jobs) = self.sort(questions)?;
        let known = replies.iter().flatten().count();
        if known > 0 {
            progress(known);
        }
        if !jobs.is_empty() {
            name::check_key(&self.settings)?;
        }
        let halt = Halt::new(stop);
        let answers = self.work(&jobs, &halt, progress);
        let is_stopped = stop();
        match halt.into_error() {
            Some(error) if !is_stopped || matches!(error, RemoteError::Record { .. }) => return Err(error),
            _ => {}
        }
        if !is_stopped
            && !self.has_replied.load(Ordering::Relaxed)
            && let Some(Err(unanswered)) = answers.first()
        {
            let (endpoint, reason) = (self.endpoints.url(0), unanswered.reason.clone());
            return Err(RemoteError::Server { endpoint, reason });
        }
        for (job, answer) in jobs.iter().zip(answers) {
            for &place in &job.places {
                let reply = answer.as_ref().map_err(Clone::clone);
                replies[place] = Some(reply.and_then(|answer| answer.reply(&questions[place].options)));
            }
        }
        let not_asked = || Err(Unanswered::new(UnansweredKind::NotAsked, "the question was not asked"));
        Ok(replies.into_iter().map(|reply| reply.unwrap_or_else(not_asked)).collect())
    }

    /// The replies that are known without asking, and what is to be asked.
    fn sort<'a>(
        &self,
        questions: &'a [Question],
    ) -> Result<(Vec<Option<Result<Reply, Unanswered>>>, Vec<Job<'a>>), RemoteError> {
        let mut replies = Vec::with_capacity(questions.len());
        let mut jobs: Vec<Job<'a>> = Vec::new();
        let mut by_key: HashMap<Key, usize> = HashMap::new();
        let mut recorded = 0;
        for (place, question) in questions.iter().enumerate() {
            question.check()?;
            let key = match protocol::key(self.settings.provider, &self.settings.model, question) {
                Ok(key) => key,
                Err(unanswered) => {
                    replies.push(Some(Err(unanswered)));
                    continue;
                }
            };
            if let Some(record) = &self.record
                && let Some(answer) = record.get(&key)?
            {
                recorded += 1;
                replies.push(Some(answer.reply(&question.options)));
                continue;
            }
            replies.push(None);
            match by_key.entry(key) {
                Entry::Occupied(job) => jobs[*job.get()].places.push(place),
                Entry::Vacant(free) => {
                    free.insert(jobs.len());
                    jobs.push(Job { key, question, places: vec![place] });
                }
            }
        }
        self.account.recorded(recorded);
        Ok((replies, jobs))
    }

    /// Asks all jobs' questions, several at a time.
    fn work(
        &self,
        jobs: &[Job<'_>],
        halt: &Halt<'_>,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Vec<Result<Answer, Unanswered>> {
        let next = AtomicUsize::new(0);
        let answers: Vec<Mutex<Option<Result<Answer, Unanswered>>>> =
            jobs.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            while !halt.is_over() {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.get(place) else { return };
                let answer = match self.ask_one(job, halt) {
                    Ok(answer) => Ok(answer),
                    Err(End::Alone(unanswered)) => Err(unanswered),
                    Err(End::ForAll(error)) => return halt.for_all(error),
                    Err(End::Stopped) => return,
                };
                *answers[place].lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                progress(job.places.len());
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.settings.concurrency.min(jobs.len()) {
                scope.spawn(work);
            }
        });
        let taken = answers.into_iter().map(|slot| {
            let answer = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
            let what = "the asking ended before it was answered";
            answer.unwrap_or_else(|| Err(Unanswered::new(UnansweredKind::NotAsked, what)))
        });
        taken.collect()
    }

    /// Asks one question, again where that may help, and records the answer.
    fn ask_one(&self, job: &Job<'_>, halt: &Halt<'_>) -> Result<Answer, End> {
        let draws = Draws::new(0, "remote").item(&job.question.id).index(job.question.sample);
        let (mut attempt, mut tried, mut is_first) = (0_u32, Vec::new(), true);
        loop {
            let hold = self.hold(job.question, halt)?;
            let chosen = self.admit(job.question, halt);
            let chosen = chosen.and_then(|()| self.choose(&tried, draws.uniform(u64::from(attempt)), halt));
            let (at, form) = chosen.inspect_err(|_| self.account.release(&hold))?;
            let exchanged = self.exchange(at, form, job.question, is_first, halt);
            is_first = false;
            let failure = match self.settle(at, &hold, exchanged) {
                Ok(answer) => {
                    if let Some(record) = &self.record {
                        record.keep(job.key, &answer).map_err(End::ForAll)?;
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

    /// A server that can be asked now, and in which form. Waits for one; `drawn` spreads the ends of waits.
    fn choose(&self, tried: &[usize], drawn: f64, halt: &Halt<'_>) -> Result<(usize, Form), End> {
        loop {
            let now = Instant::now();
            let (until, at, reason) = match self.endpoints.choose(now, tried) {
                Choice::Ask(at, form) => return Ok((at, form)),
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
        loop {
            let body = protocol::body(*provider, model, question, form).map_err(|unanswered| {
                Failure::new(FailureKind::Lasting(unanswered.kind), unanswered.reason)
            })?;
            self.account.sent(is_first);
            let response = client.post(protocol::path(*provider), &body, longest)?;
            if response.status == 200 {
                let answer = protocol::read(*provider, &response.text);
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
                _ => return Err(client.refusal(&response)),
            }
            is_first = false;
        }
    }

    /// Books what came of a request.
    pub(crate) fn settle(
        &self,
        at: usize,
        hold: &Hold,
        exchanged: Result<(Answer, Form), Failure>,
    ) -> Result<Answer, Failure> {
        match exchanged {
            Ok((answer, form)) => {
                self.account.settle(hold, answer.tokens);
                self.endpoints.replied(at, form);
                self.has_replied.store(true, Ordering::Relaxed);
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

    /// What a failure means for its server. Returns how long the question waits before it is asked again.
    fn after(&self, at: usize, failure: &Failure, backoff: Duration) -> Result<Duration, End> {
        let (now, reason) = (Instant::now(), &*failure.reason);
        match failure.kind {
            FailureKind::Lasting(kind) => {
                self.endpoints.refused(at);
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
        let is_dead = failure.kind == FailureKind::Unreachable && self.endpoints.nobody_lives(Instant::now());
        // Servers that have answered nothing yet are not ones that a single question failed on.
        if is_dead || !self.has_replied.load(Ordering::Relaxed) {
            let endpoint = self.endpoints.url(at);
            return End::ForAll(RemoteError::Server { endpoint, reason: failure.reason });
        }
        End::Alone(Unanswered::new(UnansweredKind::NoReply, failure.reason))
    }
}
