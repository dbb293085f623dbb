//! `solon run`: a recipe from its first stage to its report.

use crate::cli::RunArgs;
use crate::out::outln;
use crate::plan::Plan;
use crate::recipe::Recipe;
use crate::run::{Preregistration, print_plan, run_plan};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Runs a recipe, or prints its plan.
pub fn run(args: &RunArgs) -> Result<()> {
    let recipe = Recipe::open(&args.recipe, &args.set)?;
    let here = args.recipe.canonicalize().with_context(|| args.recipe.display().to_string())?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    let plan = Plan::to_run(recipe, here.parent().unwrap_or(Path::new(".")))
        .with_context(|| args.recipe.display().to_string())?;
    plan.check_until(args.until.as_deref())?;
    let held_to = Preregistration::of(&plan, &out, args.preregister.as_deref(), &args.recipe, &args.set)?;
    if args.plan {
        return print_plan(&plan, &out, args.json);
    }
    let until = args.until.as_deref();
    run_plan(plan, &out, args.threads, until, held_to, |run, done| {
        if let Some(until) = until {
            eprintln!("stopped after {until}; the same command without --until resumes");
            return Ok(());
        }
        let summary = run.finish(done)?;
        if args.json {
            outln!("{}", serde_json::to_string_pretty(&summary)?);
        }
        Ok(())
    })
}
