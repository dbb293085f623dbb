//! `deliver`: chooses the model that is handed over and saves it, whole, as `model/`. Chosen is what beats the baseline on
//! an evaluation that training never saw; where nothing does, the baseline is delivered and the report says so.

use super::{BASE, Data, Input, Kind, OneOrMany, Preflight, Stage, parse};
use crate::cli::UsageError;
use crate::report::{self, Report};
use crate::run::{Reader, StageRun, save_merged};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use solon_eval::choose;

pub const KIND: Kind = Kind {
    name: "deliver",
    about: "Chooses a model by its evaluation, merges its adapter and saves it.",
    parse: parse::<Deliver>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Deliver {
    /// The models to choose from.
    #[serde(default, skip_serializing)]
    among: OneOrMany,
    /// What a model must beat to be delivered instead: mostly the SFT model.
    #[serde(default, skip_serializing)]
    baseline: OneOrMany,
    /// The evaluation that decides. Without one, the last of `among` is delivered.
    #[serde(default, skip_serializing)]
    evaluation: OneOrMany,
}

/// What was delivered.
#[derive(Deserialize, Serialize)]
struct Delivered {
    model: String,
    sha256: String,
    reasons: Vec<String>,
}

impl Stage for Deliver {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("among", &self.among, &[Data::Model]),
            Input::optional("baseline", &self.baseline, &[Data::Model]),
            Input::optional("evaluation", &self.evaluation, &[Data::Evaluation]),
        ]
    }

    fn output(&self) -> Data {
        Data::Saved
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, preflight: &Preflight<'_>) -> Result<Vec<String>> {
        let names = |key: &str| (preflight.names)(key);
        let wrong = |what: String| Err(UsageError(what).into());
        let Some(evaluation) = names("evaluation").into_iter().next() else {
            if !names("baseline").is_empty() {
                let what = "`baseline` is given without `evaluation`, which is to decide\nhint: name an evaluate stage";
                return wrong(what.to_owned());
            }
            return Ok(Vec::new());
        };
        if names("baseline").len() != 1 {
            let what = "`evaluation` decides what beats `baseline`; name one model there, such as baseline = \"sft\"";
            return wrong(what.to_owned());
        }
        if (preflight.stage)(&evaluation).is_some_and(|stage| stage.judges().len() > 1) {
            return wrong(format!(
                "`{evaluation}` has two judges, and so two figures of each model\nhint: give it one judge, or decide by another"
            ));
        }
        let evaluated = (preflight.names_of)(&evaluation, "models");
        let needed = names("among").into_iter().chain(names("baseline"));
        if let Some(missing) = needed.into_iter().find(|name| !evaluated.contains(name)) {
            let models = evaluated.join(", ");
            return wrong(format!(
                "`{missing}` is not among the models that `{evaluation}` evaluates: {models}"
            ));
        }
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let (model, reasons) = chosen(&run.read())?;
        let sha256 = save_merged(&run.read().model_named(&model)?, &run.beside("model"))?;
        Ok(json!(Delivered { model, sha256, reasons }))
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        let delivered: Delivered = serde_json::from_value(read.detail()?)?;
        match delivered.reasons.is_empty() {
            true => report.verdict.push(format!("{} is delivered.", delivered.model)),
            false => report.verdict.extend(delivered.reasons),
        }
        let mut lineage: Vec<String> = Vec::new();
        let mut at = Some(delivered.model.as_str()).filter(|name| *name != BASE);
        while let Some(name) = at {
            lineage.insert(0, name.to_owned());
            at = read.source_of(name, "from").filter(|name| *name != BASE);
        }
        let (name, sha256) = (delivered.model, delivered.sha256);
        let evaluation = read.input("evaluation").first().cloned();
        report.delivered = Some(report::Delivered { name, sha256, lineage, evaluation });
        Ok(())
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        let delivered: Delivered = serde_json::from_value(read.detail()?)?;
        summary.insert("delivered".to_owned(), json!(delivered.model));
        summary.insert("weights_sha256".to_owned(), json!(delivered.sha256));
        Ok(())
    }
}

/// The model to deliver, and why.
fn chosen(read: &Reader<'_>) -> Result<(String, Vec<String>)> {
    let among = read.input("among");
    let last = among.last().context("there is no model to deliver")?;
    let (Some(evaluation), [baseline]) = (read.input("evaluation").first(), read.input("baseline")) else {
        return Ok((last.clone(), Vec::new()));
    };
    let evaluated = read.reader_of(evaluation).context("the evaluation is a stage")?.columns()?;
    let summary = |name: &String| {
        let found = evaluated.iter().find(|column| column.model == *name);
        found
            .map(|column| (column.model.as_str(), &column.summary))
            .with_context(|| format!("{name} was not evaluated"))
    };
    let candidates =
        among.iter().filter(|name| *name != baseline).map(summary).collect::<Result<Vec<_>>>()?;
    let choice = choose(summary(baseline)?, &candidates)?;
    Ok((choice.delivered, choice.reasons))
}
