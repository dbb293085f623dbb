//! What was asked, what it cost, and the budget.
//!
//! Contract: before a request is sent, the most that it may take is held back from the budget, so that requests at the same
//! time cannot overspend it together. What a server says it took then replaces what was held. A request whose reply was lost,
//! or whose reply says nothing of tokens, counts with all that was held for it: it may have been paid for.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::settings::Budget;
use crate::{EndpointUsage, Question, RemoteError};

/// Numbers of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// Those that were sent.
    pub input: u64,
    /// Those that were written.
    pub output: u64,
}

impl Tokens {
    pub(crate) fn plus(self, other: Self) -> Self {
        let (input, output) =
            (self.input.saturating_add(other.input), self.output.saturating_add(other.output));
        Self { input, output }
    }

    fn minus(self, other: Self) -> Self {
        let (input, output) =
            (self.input.saturating_sub(other.input), self.output.saturating_sub(other.output));
        Self { input, output }
    }

    /// Both together.
    pub fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// What a model on servers was asked, and what that took.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// Requests that were sent.
    pub sent: u64,
    /// Those among them that were not a question's first.
    pub retried: u64,
    /// Questions that were answered from the record, with nothing sent.
    pub recorded: u64,
    /// Tokens of the replies that came, as the servers counted them.
    pub tokens: Tokens,
    /// Requests that may have been paid for though no tokens were told: their reply was lost, or it says nothing of tokens.
    pub untold: u64,
    /// Tokens of replies that were in the record when it was opened.
    pub earlier: Tokens,
    /// What `tokens` cost, where the budget has prices.
    pub cost: Option<f64>,
    /// Each server.
    pub endpoints: Vec<EndpointUsage>,
}

impl Usage {
    /// What a person should know: servers that are set aside, and wishes of servers that change what is asked. One line each.
    pub fn notes(&self) -> Vec<String> {
        let of = |endpoint: &EndpointUsage| {
            let first_line = |reason: &String| reason.lines().next().unwrap_or_default().to_owned();
            let aside =
                endpoint.aside.iter().map(first_line).map(|reason| format!("set aside, because {reason}"));
            let differences =
                endpoint.differences.iter().map(|difference| format!("asked with {difference}"));
            aside.chain(differences).map(|what| format!("{}: {what}", endpoint.url)).collect::<Vec<_>>()
        };
        self.endpoints.iter().flat_map(of).collect()
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sent, retried, recorded, tokens, untold, cost, .. } = self;
        write!(formatter, "{sent} requests ({retried} of them again), {recorded} answers from the record; ")?;
        write!(formatter, "{} tokens in, {} out", tokens.input, tokens.output)?;
        if let Some(cost) = cost {
            write!(formatter, ", a cost of {cost:.4}")?;
        }
        if *untold > 0 {
            write!(formatter, "; {untold} more requests may have cost something")?;
        }
        Ok(())
    }
}

/// The account of one model.
pub(crate) struct Account {
    budget: Option<Budget>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sent: u64,
    retried: u64,
    recorded: u64,
    untold: u64,
    tokens: Tokens,
    earlier: Tokens,
    /// All that was held for requests of which no tokens were told.
    assumed: Tokens,
    held: Tokens,
    holders: usize,
}

/// What is held back for one request.
#[must_use]
pub(crate) struct Hold(Tokens);

impl Hold {
    /// The most that the request may take.
    pub fn most(&self) -> Tokens {
        self.0
    }
}

/// What comes of asking for a hold.
pub(crate) enum Held {
    Granted(Hold),
    /// Requests under way may leave enough.
    Wait,
    Exhausted(RemoteError),
}

impl Account {
    /// An account with what a record already holds.
    pub fn new(budget: Option<Budget>, earlier: Tokens) -> Self {
        Self { budget, state: Mutex::new(State { earlier, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts questions that were answered from the record.
    pub fn recorded(&self, questions: usize) {
        self.state().recorded += questions as u64;
    }

    /// Holds back what a question may take.
    pub fn hold(&self, question: &Question) -> Held {
        let next = Tokens { input: question.most_input_tokens(), output: question.max_new_tokens as u64 };
        let mut state = self.state();
        let spent = state.earlier.plus(state.tokens).plus(state.assumed);
        if let Some(budget) = &self.budget
            && !budget.covers(spent.plus(state.held).plus(next))
        {
            if state.holders > 0 && budget.covers(spent.plus(next)) {
                return Held::Wait;
            }
            return Held::Exhausted(budget.exhausted(spent, next));
        }
        state.held = state.held.plus(next);
        state.holders += 1;
        Held::Granted(Hold(next))
    }

    /// Counts a request that is sent now.
    pub fn sent(&self, is_first: bool) {
        let mut state = self.state();
        state.sent += 1;
        state.retried += u64::from(!is_first);
    }

    /// A request cost nothing.
    pub fn release(&self, hold: &Hold) {
        let mut state = self.state();
        state.held = state.held.minus(hold.0);
        state.holders -= 1;
    }

    /// A request took these tokens, or nobody knows how many.
    pub fn settle(&self, hold: &Hold, tokens: Option<Tokens>) {
        self.release(hold);
        let mut state = self.state();
        match tokens {
            Some(tokens) => state.tokens = state.tokens.plus(tokens),
            None => {
                state.untold += 1;
                state.assumed = state.assumed.plus(hold.0);
            }
        }
    }

    /// The account so far.
    pub fn usage(&self, endpoints: Vec<EndpointUsage>) -> Usage {
        let state = self.state();
        let has_prices = |budget: &&Budget| budget.price_in + budget.price_out > 0.0;
        Usage {
            sent: state.sent,
            retried: state.retried,
            recorded: state.recorded,
            tokens: state.tokens,
            untold: state.untold,
            earlier: state.earlier,
            cost: self.budget.as_ref().filter(has_prices).map(|budget| budget.cost(state.tokens)),
            endpoints,
        }
    }
}

impl Budget {
    fn cost(&self, tokens: Tokens) -> f64 {
        (tokens.input as f64 * self.price_in + tokens.output as f64 * self.price_out) / 1e6
    }

    fn covers(&self, tokens: Tokens) -> bool {
        self.max_tokens.is_none_or(|most| tokens.total() <= most)
            && self.max_cost.is_none_or(|most| self.cost(tokens) <= most)
    }

    fn exhausted(&self, spent: Tokens, next: Tokens) -> RemoteError {
        let words = |tokens: Tokens| match self.max_cost {
            Some(_) => format!("{:.4} ({} tokens)", self.cost(tokens), tokens.total()),
            None => format!("{} tokens", tokens.total()),
        };
        let limit = [
            self.max_tokens.map(|most| format!("{most} tokens")),
            self.max_cost.map(|most| format!("a cost of {most}")),
        ];
        let limit = limit.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        RemoteError::Budget { limit, spent: words(spent), next: words(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_records::Message;

    /// At most 20 + 4 + 16 tokens of input and 60 of output.
    fn question() -> Question {
        Question {
            id: "1".to_owned(),
            context: vec![Message::user("x".repeat(20))].into(),
            options: Vec::new(),
            max_new_tokens: 60,
            temperature: 0.0,
            stop: Vec::new(),
            sample: 0,
        }
    }

    fn granted(account: &Account) -> Hold {
        match account.hold(&question()) {
            Held::Granted(hold) => hold,
            _ => panic!("it is not granted"),
        }
    }

    #[test]
    fn a_budget_is_held_back_and_settled() {
        let budget = Budget { max_tokens: Some(250), ..Budget::default() };
        let account = Account::new(Some(budget), Tokens { input: 20, output: 0 });
        let (first, second) = (granted(&account), granted(&account));
        // 20 spent and 200 held: a third waits for what the others leave.
        assert!(matches!(account.hold(&question()), Held::Wait));
        account.settle(&first, Some(Tokens { input: 10, output: 5 }));
        let third = granted(&account);
        account.release(&second);
        // The reply was lost: all of it counts.
        account.settle(&third, None);
        let fourth = granted(&account);
        assert!(matches!(account.hold(&question()), Held::Wait));
        account.settle(&fourth, None);
        let usage = account.usage(Vec::new());
        assert_eq!((usage.tokens, usage.untold, usage.cost), (Tokens { input: 10, output: 5 }, 2, None));
        let Held::Exhausted(error) = account.hold(&question()) else { panic!("there is enough") };
        let said = error.to_string();
        assert!(
            said.contains("250 tokens") && said.contains("235 tokens so far") && said.contains("100 tokens"),
            "{said}"
        );
    }

    #[test]
    fn money_is_counted_by_the_price_of_each_side() {
        let budget = Budget { max_tokens: None, max_cost: Some(1.0), price_in: 1000.0, price_out: 10_000.0 };
        let account = Account::new(Some(budget), Tokens::default());
        // At most 0.04 + 0.6.
        let hold = granted(&account);
        account.settle(&hold, Some(Tokens { input: 400, output: 4 }));
        let usage = account.usage(Vec::new());
        assert!((usage.cost.unwrap() - 0.44).abs() < 1e-12, "{usage:?}");
        let shown = usage.to_string();
        assert!(shown.ends_with("400 tokens in, 4 out, a cost of 0.4400"), "{shown}");
        let Held::Exhausted(error) = account.hold(&question()) else { panic!("there is enough") };
        assert!(error.to_string().contains("a cost of 1"), "{error}");
    }

    /// A server may say what it likes.
    #[test]
    fn a_monstrous_count_overflows_nothing() {
        let budget = Budget { max_tokens: Some(1000), ..Budget::default() };
        let account = Account::new(Some(budget), Tokens { input: u64::MAX, output: 3 });
        assert!(matches!(account.hold(&question()), Held::Exhausted(_)));
    }
}
