//! `solon serve`: its flags.

use super::{ModelArgs, WeightsArgs};
use clap::Args;
use std::net::IpAddr;
use std::num::NonZeroUsize;

/// `solon serve`.
#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// The model's name for clients [default: --model; of a path, its last part]
    #[arg(long)]
    pub name: Option<String>,
    /// The address to listen on; 0.0.0.0 is every network of this machine
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// The port; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Number of sequences generated at the same time. An answer does not depend on it
    #[arg(long, value_name = "N", default_value_t = nonzero(32))]
    pub batch: NonZeroUsize,
    /// Requests that may wait beside those that run; a further one is told to come later (429)
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub queue: usize,
    /// Largest number of new tokens that a request may ask for; without a number in the request it is the limit too
    #[arg(long, value_name = "N", default_value_t = nonzero(4096))]
    pub max_new_tokens: NonZeroUsize,
    /// Largest number of sequences of one request: its prompts, each as often as answers to it are asked for
    #[arg(long, value_name = "N", default_value_t = nonzero(256))]
    pub max_sequences: NonZeroUsize,
    /// Largest body of a request, in MiB
    #[arg(long, value_name = "MIB", default_value_t = nonzero(8))]
    pub max_body: NonZeroUsize,
    /// Seconds that running requests may go on after Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub grace: u64,
    /// Do not write a line for each request to stderr
    #[arg(long)]
    pub quiet: bool,
}

/// A number that is not 0.
const fn nonzero(number: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(number.saturating_sub(1))
}
