//! `solon explain`: the trail of an item, from the principle and prompt it was made from to the steps that trained on
//! it.

use crate::cli::ExplainArgs;
use crate::out::Out;
use anyhow::{Result, bail};
use solon_data::ledger::Ledger;
use std::io::Write;
use std::path::Path;

/// Prints the trail of an item of a run.
pub fn run(args: &ExplainArgs) -> Result<()> {
    let explanation = open_ledger(&args.run)?.explain(&args.item)?;
    let mut out = Out;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?;
    } else {
        write!(out, "{explanation}")?;
    }
    Ok(())
}

/// Opens a run's ledger for reading; the run may still be active.
pub fn open_ledger(run: &Path) -> Result<Ledger> {
    let hint = "hint: give the folder that was --out of `solon run` or of a training command";
    if !run.is_dir() {
        bail!("there is no folder {}\n{hint}", run.display());
    }
    let path = run.join("ledger.sqlite");
    if !path.is_file() {
        bail!("{} has no ledger.sqlite, so it is not the folder of a run\n{hint}", run.display());
    }
    Ok(Ledger::open_read_only(&path)?)
}
