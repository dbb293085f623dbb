//! Reads files as one target does, without libFuzzer: `cargo run -p solon-fuzz --example replay TARGET FILE...`.

use std::io;

use solon_fuzz::{Target, check};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some(target) = Target::ALL.into_iter().find(|target| target.name() == name) else {
        eprintln!(
            "error: `{name}` is no target\nhint: cargo run -p solon-fuzz --example replay TARGET FILE..."
        );
        std::process::exit(2);
    };
    for file in arguments {
        let taken = check(target, &std::fs::read(&file)?);
        println!("{file}: {}", if taken { "read" } else { "refused" });
    }
    Ok(())
}
