//! Libraries that panic at what a stranger wrote.
//!
//! Contract: a panic inside [`without_panic`] is a value, and nothing is written on the screen. It is for calls of libraries that are known
//! to panic at damaged input, and for as little else as possible: a fault of our own must stay visible.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives; none if it panics. What it was working on may be half done and must not be used again.
pub fn without_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if !QUIET.get() {
                earlier(panicked);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_none_and_what_follows_is_done() {
        assert_eq!(without_panic(|| 1), Some(1));
        assert_eq!(
            without_panic(|| without_panic(|| panic!("on purpose")).is_none_or(|()| false)),
            Some(true)
        );
        assert!(!QUIET.get());
        assert_eq!(without_panic(|| 2), Some(2));
    }
}
