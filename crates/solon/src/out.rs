//! Standard output. Whoever reads it may stop, as `head` does: then the program ends quietly.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Standard output, which remembers that it was closed.
pub struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        noted(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        noted(io::stdout().flush())
    }
}

/// Whether nobody reads it any more: the error that is going up comes from that.
pub fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

fn noted<T>(done: io::Result<T>) -> io::Result<T> {
    if done.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        CLOSED.store(true, Ordering::Relaxed);
    }
    done
}

/// Writes to standard output; returns the error from the function it stands in.
macro_rules! out {
    ($($text:tt)*) => { ::std::io::Write::write_fmt(&mut $crate::out::Out, format_args!($($text)*))? };
}

/// Writes a line to standard output; returns the error from the function it stands in.
macro_rules! outln {
    ($($text:tt)*) => {{
        $crate::out::out!($($text)*);
        $crate::out::out!("\n");
    }};
}

pub(crate) use {out, outln};
