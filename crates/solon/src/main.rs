//! `solon`: from a constitution to an aligned, evaluated model in one command.

mod assets;
mod catalogue;
mod cli;
mod commands;
mod feedback_model;
mod items;
mod memory;
mod plan;
mod progress;
mod recipe;
mod report;
mod run;
mod stages;
mod tokenise;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::print_error(&error);
            ExitCode::from(cli::exit_code(&error))
        }
    }
}
