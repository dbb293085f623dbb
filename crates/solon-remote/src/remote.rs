//! Asks a model on servers.
//!
//! Contract: [`crate`] says it. Each question goes through the same steps: what it may cost is held back, a server is chosen, a
//! limit per minute lets it pass, the reply is read and recorded ([`one`]).

mod one;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::account::{Account, Tokens, Usage};
use crate::address::Address;
use crate::answer::Answer;
use crate::endpoints::Endpoints;
use crate::halt::Halt;
use crate::http::Client;
use crate::limits::Limits;
use crate::name;
use crate::probe::Capabilities;
use crate::protocol::{self, Key};
use crate::record::Record;
use crate::{Interface, Provider, Question, RemoteError, RemoteSettings, Reply, Unanswered, UnansweredKind};

/// A model on one or more servers.
pub struct Remote {
    pub(crate) settings: RemoteSettings,
    /// In the order of the addresses, as the clients.
    pub(crate) endpoints: Endpoints,
    pub(crate) clients: Vec<Client>,
    pub(crate) account: Account,
    /// Of each interface.
    pub(crate) capabilities: [Mutex<Option<Capabilities>>; 2],
    limits: Limits,
    record: Option<Record>,
    /// By each interface: a recorded answer has no log-probs though they were asked for.
    shown_none: [AtomicBool; 2],
    /// Some question was answered or refused, now or by the record: a failure of one need not be one of all.
    has_replied: AtomicBool,
    /// So many questions were given up since the last reply or refusal.
    given_up_in_a_row: AtomicUsize,
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
            capabilities: Default::default(),
            limits: Limits::new(settings.requests_per_minute, settings.tokens_per_minute),
            record,
            shown_none: Default::default(),
            has_replied: AtomicBool::new(answers > 0),
            given_up_in_a_row: AtomicUsize::new(0),
            asking: Mutex::new(()),
            settings,
        })
    }

    /// Whether the servers show log-probs of an answer's first token, as far as their replies and the record tell: all do, or one
    /// shows none. Sends nothing.
    pub fn known_to_show_log_probs(&self, interface: Interface) -> Option<bool> {
        let none = self.settings.provider != Provider::OpenAi
            || self.shown_none[interface as usize].load(Ordering::Relaxed);
        if none { Some(false) } else { self.endpoints.show_log_probs(interface) }
    }

    /// The same. `None` where a single server was not asked for some yet: the next question tells. Several are asked once, so that it
    /// does not depend on who gets a question.
    ///
    /// Errors as [`Remote::probe`].
    pub fn shows_log_probs(&self, interface: Interface) -> Result<Option<bool>, RemoteError> {
        let known = self.known_to_show_log_probs(interface);
        if known.is_some() || self.clients.len() == 1 {
            return Ok(known);
        }
        self.probe(interface)?;
        // One that cannot be reached now shows some until it is known not to.
        Ok(self.endpoints.show_log_probs(interface).or(Some(true)))
    }

    /// How many of the questions have a recorded answer. Sends nothing.
    ///
    /// Errors where the record cannot be read.
    pub fn recorded(&self, questions: &[Question]) -> Result<usize, RemoteError> {
        let mut recorded = 0;
        for question in questions {
            // What cannot be asked has no answer.
            let Ok(key) = protocol::key(self.settings.provider, &self.settings.model, question) else {
                continue;
            };
            recorded += usize::from(self.recall(&key, question)?.is_some());
        }
        Ok(recorded)
    }

    /// The recorded answer to a question. It may tell that a server shows no log-probs.
    fn recall(&self, key: &Key, question: &Question) -> Result<Option<Answer>, RemoteError> {
        let Some(record) = &self.record else { return Ok(None) };
        let answer = record.get(key)?;
        if !question.options.is_empty() && answer.as_ref().and_then(Answer::shows_log_probs) == Some(false) {
            self.shown_none[question.interface() as usize].store(true, Ordering::Relaxed);
        }
        Ok(answer)
    }

    /// What was asked so far, and what it took.
    pub fn usage(&self) -> Usage {
        self.account.usage(self.endpoints.usage(Instant::now()))
    }

    /// Asks all questions, several at a time; the replies are in their order. What is recorded is not asked, and questions that
    /// are the same are asked once. `progress` gets the number of questions that are done since its last call. Once `stop` says
    /// so, what is not asked yet is not asked; requests under way end first, so that no reply is lost.
    ///
    /// Errors where no question will get a reply, where the servers have never replied to one or refused it, and where the budget is
    /// used up.
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
                replies[place] = Some(reply.and_then(|answer| answer.reply(&questions[place])));
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
            if let Some(answer) = self.recall(&key, question)? {
                recorded += 1;
                replies.push(Some(answer.reply(question)));
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
}
