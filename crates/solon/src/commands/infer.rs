//! `solon constitution infer`: a recipe of one `infer` stage.
//!
//! Contract: `--out` holds a constitution that can be read, or is left as it is where nothing was found; it is replaced atomically at the
//! end. The run is kept in `OUT.run`, so that the same command resumes it and `solon report --run OUT.run` writes its report.

use super::one_stage::OneStage;
use crate::cli::InferArgs;
use crate::out::{out, outln};
use crate::stages::{Figures, Inference};
use anyhow::Result;
use serde_json::json;
use solon_data::files::write_bytes_atomically;
use solon_feedback::for_terminal;
use std::path::PathBuf;

/// Infers a constitution from preferences.
pub fn run(args: &InferArgs) -> Result<()> {
    let stage = OneStage::new("infer", &args.model)?
        .recipe(|recipe| {
            recipe.seed = args.seed;
            recipe.weights = args.weights.weights;
        })
        .judge("labeller", &args.judge)
        .data("pairs", &args.pairs)?
        .key("principles", Some(i64::try_from(args.principles)?))
        .key("proposals", Some(i64::try_from(args.proposals)?))
        .key("rows", Some(i64::try_from(args.rows)?))
        .key("hold_out_every", Some(i64::try_from(args.hold_out_every)?))
        .set(&args.stage.set)?;
    let mut beside = args.out.as_os_str().to_owned();
    beside.push(".run");
    let folder = args.stage.run.clone().unwrap_or_else(|| PathBuf::from(beside));
    stage.run(Some(&folder), |run, _| {
        let found = Inference::told(&run.reader("infer")?)?;
        let constitution = found.constitution()?;
        if let Some(text) = &constitution {
            write_bytes_atomically(&args.out, text.as_bytes())?;
        }
        match args.json {
            true => {
                let mut value = json!(found);
                value["conclusion"] = json!(found.conclusion());
                value["constitution"] = json!(constitution.is_some().then(|| args.out.display().to_string()));
                outln!("{}", serde_json::to_string_pretty(&value)?);
            }
            false => out!("{}", table(&found)),
        }
        match constitution {
            Some(_) => eprintln!("{}: look at it with `solon constitution show`", args.out.display()),
            None if args.out.exists() => eprintln!("{} is as it was", args.out.display()),
            None => {}
        }
        Ok(())
    })
}

/// Candidates that are shown beside the kept principles: the best of the others.
const SHOWN: usize = 10;

/// What was found as a table, and how to read it.
fn table(found: &Inference) -> String {
    let mut text = format!(
        "{:>22} {:>22} {:>22}  {:<26} {}\n",
        "training, right %",
        "held out, right %",
        "held out, explains %",
        "what became of it",
        "prefer the answer that"
    );
    let right = |figures: &Figures| match figures.accuracy.total {
        0 => "no vote".to_owned(),
        total => format!(
            "{} of {total}",
            shown(figures.accuracy.rate, figures.accuracy.low, figures.accuracy.high)
        ),
    };
    let explains =
        |figures: &Figures| shown(figures.explained.rate, figures.explained.low, figures.explained.high);
    let mut row = |name: &str, training: Option<&Figures>, held_out: Option<&Figures>, fate: &str| {
        let training = training.map_or("-".to_owned(), right);
        let [right, explains] =
            [held_out.map(right), held_out.map(explains)].map(|cell| cell.unwrap_or("-".to_owned()));
        // Rules are last, because some are long.
        text += &format!("{training:>22} {right:>22} {explains:>22}  {fate:<26} {}\n", for_terminal(name));
    };
    let kept = found.kept_figures().count();
    for voted in found.principles.iter().take(kept + SHOWN) {
        row(&voted.rule, Some(&voted.training), voted.held_out.as_ref(), voted.fate.name());
    }
    let more = found.principles.len().saturating_sub(kept + SHOWN);
    if more > 0 {
        row(&format!("({more} more, with --json)"), None, None, "");
    }
    if found.together.is_some() {
        row("(all kept ones, by majority)", None, found.together.as_ref(), "");
    }
    row("(always the longer answer)", None, Some(&found.longer), "");
    let refused: Vec<String> =
        found.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let refused = if refused.is_empty() { "nothing".to_owned() } else { refused.join(", ") };
    format!(
        "{text}\nright: of the pairs on which it votes; guessing is right on half. explains: of all {} held-out pairs.\n\
         {} pairs to learn from: {} questions, {} rules, {} different. Refused of the replies: {refused}.\n\n{}.\n",
        found.held_out_pairs,
        found.training_pairs,
        found.questions,
        found.rules,
        found.different_rules,
        found.conclusion()
    )
}

/// A rate with its interval, in percent.
fn shown(rate: f64, low: f64, high: f64) -> String {
    format!("{:.0} ({:.0}-{:.0})", 100.0 * rate, 100.0 * low, 100.0 * high)
}
