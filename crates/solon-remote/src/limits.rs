//! Requests and tokens in any minute.
//!
//! Contract: in no 60 seconds are more requests sent than the limit, nor questions of more tokens. A question that is larger
//! than the whole limit is sent alone. Tokens are estimated before they are counted by the server.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// The limits of one model, over all its servers.
pub(crate) struct Limits {
    requests: Option<u32>,
    tokens: Option<u64>,
    /// When requests of the last minute were sent, and about how many tokens each had.
    lately: Mutex<VecDeque<(Instant, u64)>>,
}

impl Limits {
    pub fn new(requests: Option<u32>, tokens: Option<u64>) -> Self {
        Self { requests, tokens, lately: Mutex::new(VecDeque::new()) }
    }

    /// Counts a request of so many tokens as sent now, or says how long it must wait before it asks here again.
    pub fn admit(&self, now: Instant, tokens: u64) -> Result<(), Duration> {
        if self.requests.is_none() && self.tokens.is_none() {
            return Ok(());
        }
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        while lately.front().is_some_and(|(sent, _)| now.saturating_duration_since(*sent) >= MINUTE) {
            lately.pop_front();
        }
        let sum = lately.iter().fold(tokens, |sum, (_, tokens)| sum.saturating_add(*tokens));
        let is_free = self.requests.is_none_or(|most| lately.len() < most as usize)
            && self.tokens.is_none_or(|most| sum <= most);
        match lately.front() {
            Some((oldest, _)) if !is_free => {
                Err(MINUTE.saturating_sub(now.saturating_duration_since(*oldest)))
            }
            _ => {
                lately.push_back((now, tokens));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_has_more_than_the_limit() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let wait = |seconds| Err(Duration::from_secs(seconds));
        let limits = Limits::new(Some(2), None);
        assert_eq!(limits.admit(at(0), 1), Ok(()));
        assert_eq!(limits.admit(at(10), 1), Ok(()));
        assert_eq!(limits.admit(at(11), 1), wait(49));
        assert_eq!(limits.admit(at(60), 1), Ok(()));
        assert_eq!(limits.admit(at(61), 1), wait(9));
        let limits = Limits::new(None, Some(100));
        assert_eq!(limits.admit(at(0), 60), Ok(()));
        assert_eq!(limits.admit(at(1), 60), wait(59));
        assert_eq!(limits.admit(at(1), 40), Ok(()));
        // Larger than all of it: alone, or it would wait for ever.
        assert_eq!(limits.admit(at(2), 500), wait(58));
        assert_eq!(limits.admit(at(61), 500), Ok(()));
        assert_eq!(limits.admit(at(62), 1), wait(59));
    }
}
