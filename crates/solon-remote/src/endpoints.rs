//! Several servers of one model: which is asked next.
//!
//! Contract: the server with the fewest requests under way is asked. One that asks to wait is not asked before. One that
//! cannot be reached, or fails several times in a row, is set aside for a while and then tried again; where all are set aside,
//! the one whose time ends first is tried, because there is no better choice.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Interface;
use crate::protocol::Form;

/// Failures in a row after which a server is set aside.
const PATIENCE: u32 = 3;
/// How long it is set aside at first; twice as long each further time.
const ASIDE: Duration = Duration::from_secs(30);
/// How long at most.
const LONGEST_ASIDE: Duration = Duration::from_secs(300);

/// One server's part in what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUsage {
    /// Its base address.
    pub url: String,
    /// Replies that came.
    pub replies: u64,
    /// Requests that failed there.
    pub failures: u64,
    /// Why it is set aside, where it is.
    pub aside: Option<String>,
    /// How requests differ from the usual form, because the server takes no other.
    pub differences: Vec<String>,
}

/// The servers of one model.
pub(crate) struct Endpoints(Mutex<Vec<Endpoint>>);

struct Endpoint {
    url: String,
    /// Of requests to each interface.
    asked: [Asked; 2],
    under_way: usize,
    replies: u64,
    failures: u64,
    in_a_row: u32,
    /// How often it was set aside since its last reply.
    times_aside: u32,
    aside: Option<(Instant, String)>,
    /// When it may be asked again, and why not before.
    resting: Option<(Instant, String)>,
}

/// What is known of one of a server's interfaces.
#[derive(Clone, Copy, Default)]
struct Asked {
    form: Form,
    /// It has shown log-probs.
    shows_log_probs: bool,
}

impl Endpoint {
    fn asked(&mut self, interface: Interface) -> &mut Asked {
        &mut self.asked[interface as usize]
    }

    fn is_aside(&self, now: Instant) -> bool {
        self.aside.as_ref().is_some_and(|(until, _)| *until > now)
    }

    fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.resting.as_ref().map(|(until, _)| *until).filter(|until| *until > now)
    }
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub(crate) enum Choice {
    /// Ask the server in this place.
    Ask(usize),
    /// All that could be asked have asked to wait, the shortest until then, for this reason.
    Wait(Instant, usize, String),
}

impl Endpoints {
    pub fn new(urls: impl Iterator<Item = String>) -> Self {
        let endpoint = |url| Endpoint {
            url,
            asked: [Asked::default(); 2],
            under_way: 0,
            replies: 0,
            failures: 0,
            in_a_row: 0,
            times_aside: 0,
            aside: None,
            resting: None,
        };
        Self(Mutex::new(urls.map(endpoint).collect()))
    }

    fn all(&self) -> MutexGuard<'_, Vec<Endpoint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server to ask now, if one of those that were not tried yet can be, before those that were.
    pub fn choose(&self, now: Instant, tried: &[usize]) -> Choice {
        let mut all = self.all();
        let is_alive = |endpoint: &Endpoint| !endpoint.is_aside(now);
        let nobody_lives = !all.iter().any(is_alive);
        let of_age = |endpoint: &Endpoint| nobody_lives || is_alive(endpoint);
        let free = (0..all.len()).filter(|&at| of_age(&all[at]) && all[at].rests_until(now).is_none());
        let best = free.min_by_key(|at| {
            let endpoint = &all[*at];
            let until = endpoint.aside.as_ref().filter(|_| nobody_lives).map(|(until, _)| *until);
            (tried.contains(at), until, endpoint.under_way, endpoint.replies + endpoint.failures)
        });
        if let Some(at) = best {
            all[at].under_way += 1;
            return Choice::Ask(at);
        }
        let resting =
            all.iter().enumerate().filter(|(_, endpoint)| of_age(endpoint)).filter_map(|(at, endpoint)| {
                endpoint.resting.as_ref().map(|(until, reason)| (*until, at, reason.clone()))
            });
        match resting.min_by_key(|(until, ..)| *until) {
            Some((until, at, reason)) => Choice::Wait(until, at, reason),
            // Without servers there is nothing to choose; settings refuse that.
            None => Choice::Wait(now, 0, String::new()),
        }
    }

    /// Takes a server whatever its state, to see what it can do.
    pub fn take(&self, at: usize) {
        self.all()[at].under_way += 1;
    }

    /// The form in which a server's interface is asked.
    pub fn form(&self, at: usize, interface: Interface) -> Form {
        self.all()[at].asked(interface).form
    }

    /// Whether all servers are set aside.
    pub fn nobody_lives(&self, now: Instant) -> bool {
        self.all().iter().all(|endpoint| endpoint.is_aside(now))
    }

    /// Whether all servers show log-probs: yes once each has, no once one is known to show none.
    pub fn show_log_probs(&self, interface: Interface) -> Option<bool> {
        let mut all = self.all();
        if all.iter_mut().any(|endpoint| endpoint.asked(interface).form.log_probs == 0) {
            return Some(false);
        }
        all.iter_mut().all(|endpoint| endpoint.asked(interface).shows_log_probs).then_some(true)
    }

    /// Whether another server can be asked now that was not tried yet.
    pub fn has_another(&self, now: Instant, tried: &[usize]) -> bool {
        let all = self.all();
        let mut others = all.iter().enumerate().filter(|(at, _)| !tried.contains(at));
        others.any(|(_, endpoint)| !endpoint.is_aside(now) && endpoint.rests_until(now).is_none())
    }

    /// A server that was chosen is not asked after all.
    pub fn give_back(&self, at: usize) {
        self.all()[at].under_way -= 1;
    }

    /// A server replied to a request of this form. `shows_log_probs`: whether with some, where they were asked for.
    pub fn replied(&self, at: usize, interface: Interface, form: Form, shows_log_probs: Option<bool>) {
        let endpoint = &mut self.all()[at];
        endpoint.under_way -= 1;
        endpoint.replies += 1;
        (endpoint.in_a_row, endpoint.times_aside, endpoint.aside) = (0, 0, None);
        let asked = endpoint.asked(interface);
        // Requests that were sent before another found out something do not undo it.
        asked.form = asked.form.and(form);
        match shows_log_probs {
            Some(true) => asked.shows_log_probs = true,
            // It ignores the wish, which costs a token each time.
            Some(false) => asked.form.log_probs = 0,
            None => {}
        }
    }

    /// A server does not take one question: it is alive.
    pub fn refused(&self, at: usize) {
        let endpoint = &mut self.all()[at];
        endpoint.under_way -= 1;
        endpoint.failures += 1;
        (endpoint.in_a_row, endpoint.times_aside, endpoint.aside) = (0, 0, None);
    }

    /// A server asks to be left alone until then.
    pub fn busy(&self, at: usize, until: Instant, reason: &str) {
        let endpoint = &mut self.all()[at];
        endpoint.under_way -= 1;
        endpoint.failures += 1;
        if endpoint.resting.as_ref().is_none_or(|(known, _)| *known < until) {
            endpoint.resting = Some((until, reason.to_owned()));
        }
    }

    /// A request failed. A server that cannot be reached is set aside at once.
    pub fn failed(&self, at: usize, now: Instant, is_unreachable: bool, reason: &str) {
        let endpoint = &mut self.all()[at];
        endpoint.under_way -= 1;
        endpoint.failures += 1;
        endpoint.in_a_row += 1;
        if (is_unreachable || endpoint.in_a_row >= PATIENCE) && !endpoint.is_aside(now) {
            let long = ASIDE.saturating_mul(1 << endpoint.times_aside.min(8)).min(LONGEST_ASIDE);
            endpoint.times_aside += 1;
            endpoint.aside = Some((now + long, reason.to_owned()));
        }
    }

    /// A server answers no question any more. Where it did before and another lives, it is set aside; otherwise this returns
    /// false, and nothing can be asked.
    pub fn fell_out(&self, at: usize, now: Instant, reason: &str) -> bool {
        let mut all = self.all();
        all[at].under_way -= 1;
        all[at].failures += 1;
        let another = all.iter().enumerate().any(|(other, endpoint)| other != at && !endpoint.is_aside(now));
        if all[at].replies == 0 || !another {
            return false;
        }
        all[at].aside = Some((now + LONGEST_ASIDE, reason.to_owned()));
        true
    }

    /// The address of a server.
    pub fn url(&self, at: usize) -> String {
        self.all()[at].url.clone()
    }

    /// Each server's part so far.
    pub fn usage(&self, now: Instant) -> Vec<EndpointUsage> {
        let usage = |endpoint: &Endpoint| EndpointUsage {
            url: endpoint.url.clone(),
            replies: endpoint.replies,
            failures: endpoint.failures,
            aside: endpoint
                .aside
                .as_ref()
                .filter(|(until, _)| *until > now)
                .map(|(_, reason)| reason.clone()),
            differences: endpoint.asked[0].form.and(endpoint.asked[1].form).differences(),
        };
        self.all().iter().map(usage).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> (Endpoints, Instant) {
        (Endpoints::new(["a", "b", "c"].into_iter().map(str::to_owned)), Instant::now())
    }

    fn asked(choice: Choice) -> usize {
        match choice {
            Choice::Ask(at) => at,
            Choice::Wait(..) => panic!("{choice:?}"),
        }
    }

    #[test]
    fn the_least_busy_is_asked_and_one_that_waits_is_not() {
        let (all, now) = three();
        let first: Vec<usize> = (0..3).map(|_| asked(all.choose(now, &[]))).collect();
        assert_eq!(first, [0, 1, 2]);
        all.replied(1, Interface::Chat, Form::default(), None);
        assert_eq!(asked(all.choose(now, &[])), 1);
        let later = now + Duration::from_secs(5);
        for (at, seconds) in [(0, 9), (1, 5), (2, 7)] {
            all.busy(at, now + Duration::from_secs(seconds), "HTTP 429");
        }
        assert_eq!(all.choose(now, &[]), Choice::Wait(later, 1, "HTTP 429".to_owned()));
        assert!(!all.has_another(now, &[0]) && all.has_another(later, &[0]));
        assert_eq!(asked(all.choose(later, &[])), 1);
        // A shorter wait that another request was told does not undo a longer one.
        asked(all.choose(later, &[]));
        all.busy(1, later, "again");
        assert_eq!(asked(all.choose(later, &[1])), 1);
    }

    #[test]
    fn a_dead_one_is_set_aside_and_tried_again() {
        let (all, now) = three();
        assert_eq!(asked(all.choose(now, &[])), 0);
        all.failed(0, now, true, "refused");
        assert_eq!(all.usage(now)[0].aside.as_deref(), Some("refused"));
        let chosen: Vec<usize> = (0..4).map(|_| asked(all.choose(now, &[]))).collect();
        assert!(!chosen.contains(&0), "{chosen:?}");
        let later = now + ASIDE;
        assert_eq!(asked(all.choose(later, &[])), 0, "it is tried again");
        all.failed(0, later, true, "refused");
        assert!(
            all.usage(later + ASIDE)[0].aside.is_some() && all.usage(later + 2 * ASIDE)[0].aside.is_none()
        );
        // One that fails now and then lives; one that fails again and again does not.
        for (failures, is_aside) in [(1, false), (1, false), (1, true)] {
            for _ in 0..failures {
                all.failed(1, now, false, "HTTP 500");
            }
            assert_eq!(all.usage(now)[1].aside.is_some(), is_aside);
            if !is_aside {
                asked(all.choose(now, &[2]));
            }
        }
    }

    #[test]
    fn where_all_are_aside_the_one_whose_time_ends_first_is_tried() {
        let (all, now) = three();
        for (at, seconds) in [(0, 3), (1, 0), (2, 2)] {
            asked(all.choose(now, &[]));
            all.failed(at, now + Duration::from_secs(seconds), true, "refused");
        }
        let late = now + Duration::from_secs(4);
        assert_eq!(asked(all.choose(late, &[])), 1);
        assert_eq!(asked(all.choose(late, &[1])), 2);
    }

    #[test]
    fn one_that_never_replied_is_no_loss_but_an_error() {
        let (all, now) = three();
        for _ in 0..2 {
            asked(all.choose(now, &[1, 2]));
        }
        all.replied(0, Interface::Chat, Form::default(), None);
        assert!(all.fell_out(0, now, "HTTP 404"));
        assert_eq!(asked(all.choose(now, &[0, 2])), 1);
        assert!(!all.fell_out(1, now, "HTTP 404"));
    }

    #[test]
    fn one_that_shows_no_log_probs_is_not_asked_for_them_again() {
        let (all, now) = three();
        let (chat, form) = (Interface::Chat, Form::default());
        let reply = |at, shows| {
            all.take(at);
            all.replied(at, chat, form, shows);
        };
        for at in 0..3 {
            assert_eq!(all.show_log_probs(chat), None);
            reply(at, Some(true));
        }
        assert_eq!(all.show_log_probs(chat), Some(true));
        reply(1, Some(false));
        // A reply to an earlier request changes nothing.
        reply(1, None);
        assert_eq!(all.show_log_probs(chat), Some(false));
        assert_eq!((all.form(1, chat).log_probs, all.form(2, chat)), (0, form));
        assert_eq!(
            (all.show_log_probs(Interface::Completions), all.form(1, Interface::Completions)),
            (None, form)
        );
        assert_eq!(all.usage(now)[1].differences, ["no log-probs"]);
    }
}
