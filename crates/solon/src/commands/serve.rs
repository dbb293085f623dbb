//! `solon serve`: a model for clients of OpenAI's API.

use super::open;
use crate::cli::{ServeArgs, UsageError};
use crate::hub;
use crate::out::Out;
use anyhow::Result;
use solon_serve::{Limits, ServeSettings, serve};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// The environment variable with the key that clients must send.
const KEY: &str = "SOLON_API_KEY";

/// Serves until Ctrl-C. The base address goes to stdout once the server can be reached.
pub fn run(args: &ServeArgs) -> Result<()> {
    let max_body_bytes = args.max_body.get().checked_mul(1 << 20);
    let max_body_bytes = max_body_bytes.ok_or_else(|| UsageError("--max-body is too large".to_owned()))?;
    let key = match std::env::var(KEY) {
        Ok(key) if key.trim().is_empty() => None,
        Ok(key) => Some(key.trim().to_owned()),
        Err(std::env::VarError::NotPresent) => None,
        Err(error) => return Err(UsageError(format!("{KEY}: {error}")).into()),
    };
    if key.is_none() && !args.host.is_loopback() {
        eprintln!(
            "warning: everyone who can reach {} can use the model\nhint: set {KEY} to a key that clients must send",
            args.host
        );
    }
    let model = open(&args.model, args.weights.weights.into())?;
    let name = args.name.clone().unwrap_or_else(|| served_name(&args.model.model));
    let settings = ServeSettings {
        name: name.clone(),
        host: args.host,
        port: args.port,
        key,
        limits: Limits {
            queue: args.queue,
            max_body_bytes,
            max_new_tokens: args.max_new_tokens.get(),
            max_sequences: args.max_sequences.get(),
        },
        slots: args.batch.get(),
        threads: args.model.threads,
        grace: Duration::from_secs(args.grace),
        log: !args.quiet,
    };
    serve(model, settings, |address: SocketAddr| {
        eprintln!("serving {name}; Ctrl-C stops");
        let mut out = Out;
        // Nobody may be reading, and the server does not depend on it.
        let _ = writeln!(out, "http://{address}/v1").and_then(|()| out.flush());
    })?;
    Ok(())
}

/// A name of the catalogue or the Hub as it is; of a path the last part.
fn served_name(model: &str) -> String {
    if let Some(repository) = hub::named(model) {
        return repository.id;
    }
    let path = std::path::Path::new(model);
    path.file_name().map_or_else(|| model.to_owned(), |name| name.to_string_lossy().into_owned())
}
