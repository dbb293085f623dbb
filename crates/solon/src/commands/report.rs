//! `solon report`: the report of a run and its model card, written again from the run's folder.
//!
//! Contract: nothing is computed and no model is opened, so any build of the program can write the report of any run whose
//! recipe it can read. Stages that are not finished are left out, and the report names them.

use super::explain::open_ledger;
use crate::cli::ReportArgs;
use crate::run::Run;
use anyhow::Result;

/// Writes the report of a run again.
pub fn run(args: &ReportArgs) -> Result<()> {
    // Says what is wrong with a folder that holds no run, before anything is made in it.
    drop(open_ledger(&args.run)?);
    Run::reopen(&args.run)?.report_again()
}
