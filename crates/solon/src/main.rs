//! `solon`: from a constitution to an aligned, evaluated model in one command.

mod adviser;
mod assets;
mod catalogue;
mod chat_template;
mod cli;
mod commands;
mod data_files;
mod feedback_model;
mod hub;
mod items;
mod judge;
mod memory;
mod out;
mod piped;
mod plan;
mod progress;
mod recipe;
mod remote_model;
mod report;
mod reward_labeller;
mod run;
mod stages;
mod tokenise;
mod votes;

use clap::Parser;
use solon_kernels::isa;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    // Checked before any kernel runs, because a kernel could only panic.
    let isa = isa::from_environment().map_err(|error| cli::UsageError(error.to_string()).into());
    match isa.and_then(|_| commands::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        // As the shell says of a program that was stopped so.
        Err(_) if out::is_closed() => ExitCode::from(141),
        Err(error) => {
            cli::print_error(&error);
            ExitCode::from(cli::exit_code(&error))
        }
    }
}
