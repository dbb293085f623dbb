//! `scale`: how strongly an adapter is applied, chosen on development prompts. Training sets the direction of an update; its
//! length is found here without training: the adapter is tried at several factors, and the one whose answers score best is the
//! model. `alpha` is what is scaled, so the factors stay as they were trained.
//!
//! The score is the benchmark's, as `deliver` uses it. The prompts are those of the choice, so no model that comes of it may be
//! evaluated on them: `evaluate` refuses that.

use super::asking::{self, Asking};
use super::{Data, Input, Keys, Kind, Method, OneOrMany, Preflight, Stage};
use crate::cli::UsageError;
use crate::feedback_model::LocalModel;
use crate::items::Evaluated;
use crate::report::Report;
use crate::run::{Reader, StageRun};
use anyhow::{Context, Result, bail};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use solon_data::ledger::{ItemKind, TypedItem};
use solon_eval::benchmarks::{self, Open, Settings};
use solon_eval::{Benchmark, Item, Judged, Measure, score, summarise};
use std::collections::BTreeMap;

pub const KIND: Kind = Kind {
    name: "scale",
    about: "Chooses how strongly an adapter is applied, by a benchmark on development prompts.",
    parse: Scale::parse,
    files: Vec::new,
};

#[derive(Serialize)]
struct Scale {
    /// The model whose adapter is scaled.
    #[serde(skip)]
    from: OneOrMany,
    /// The benchmark's prompts to choose by; not those of the evaluation.
    #[serde(skip)]
    prompts: OneOrMany,
    /// What the adapter is multiplied by.
    factors: Vec<f64>,
    /// Which benchmark, and how.
    #[serde(flatten)]
    asking: Asking,
}

/// The keys of the stage; the others are the benchmark's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    #[serde(default)]
    from: OneOrMany,
    #[serde(default)]
    prompts: OneOrMany,
    #[serde(default = "asking::safety")]
    benchmark: String,
    #[serde(default = "factors", deserialize_with = "some_factors")]
    factors: Vec<f64>,
}

fn factors() -> Vec<f64> {
    vec![0.6, 0.8, 1.0, 1.2, 1.4]
}

/// Tokens of an answer: whether it declines shows early.
const ANSWER_LENGTH: usize = 32;

fn some_factors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let factors = Vec::<f64>::deserialize(deserializer)?;
    if factors.is_empty() {
        return Err(D::Error::custom("the list of factors is empty"));
    }
    for (place, factor) in factors.iter().enumerate() {
        if !(factor.is_finite() && *factor > 0.0) {
            return Err(D::Error::custom(format!("{factor} was given; give factors above 0")));
        }
        if factors[..place].contains(factor) {
            return Err(D::Error::custom(format!("{factor} is given twice")));
        }
    }
    Ok(factors)
}

/// What came of it, as the ledger keeps it.
#[derive(Debug, Deserialize, Serialize)]
struct Chosen {
    /// What the adapter was multiplied by.
    factor: f64,
    /// The answers of each factor.
    tried: Vec<Tried>,
}

/// What the answers with a factor came to.
#[derive(Debug, Deserialize, Serialize)]
struct Tried {
    factor: f64,
    /// The benchmark's score.
    score: f64,
    /// The rates of its measures.
    measures: BTreeMap<String, f64>,
}

impl Scale {
    fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
        let Own { from, prompts, benchmark, factors } =
            keys.take(&["from", "prompts", "benchmark", "factors"])?;
        if benchmarks::find(&benchmark).is_ok_and(|known| matches!(known.open, Open::Files(_))) {
            return Err(format!("`scale` chooses by a benchmark over prompts, and {benchmark} is none"));
        }
        let mut settings: Settings = keys.rest()?;
        settings.entry("max_new_tokens").or_insert(ANSWER_LENGTH.into());
        let asking = Asking::new(&benchmark, None, !prompts.is_empty(), settings)?;
        Ok(Box::new(Self { from, prompts, factors, asking }))
    }
}

impl Stage for Scale {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", &self.from, &[Data::Model]),
            Input::required("prompts", &self.prompts, &[Data::Prompts]),
        ]
    }

    fn output(&self) -> Data {
        Data::Model
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn measured(&self, prompts: &[&dyn Stage]) -> Result<Vec<String>> {
        self.asking.texts(prompts)
    }

    fn preflight(&self, preflight: &Preflight<'_>) -> Result<Vec<String>> {
        let from = (preflight.names)("from");
        if from.len() != 1 {
            return Err(UsageError(format!("from names {} models; name one", from.len())).into());
        }
        if (preflight.inputs)("from").iter().any(|stage| stage.trains() == Some(Method::Full)) {
            return Err(UsageError(no_adapter(&from[0])).into());
        }
        asking::check_unseen(preflight, &from[0])?;
        if let Some(benchmark) = self.asking.open_before(preflight)? {
            check_scored(&*benchmark)?;
        }
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let benchmark = self.asking.open(run.read().prompts("prompts")?)?;
        check_scored(&*benchmark)?;
        let policy = run.read().model("from")?;
        let Some(adapter) = &policy.adapter else { bail!(no_adapter(&run.read().input_shown("from"))) };
        let backend = policy.chat.decoder.backend();
        let (name, draws) = (run.name().to_owned(), run.draws());
        for (column, factor) in self.factors.iter().enumerate() {
            let scaled = adapter.scaled(backend, *factor as f32);
            let model = LocalModel::new(&policy.chat, Some(&scaled), run.slots());
            let id = |item: &Item| format!("{name}/{factor}/{}", item.id);
            let first = (column * benchmark.items().len()) as u64;
            run.in_chunks("answers", benchmark.items(), ItemKind::Response, id, |_, todo| {
                let answers = asking::answers(&*benchmark, &model, todo, &mut BTreeMap::new(), draws)?;
                let items = todo.iter().zip(answers).map(|((place, item), answer)| {
                    let judged = Judged::new(&*benchmark, item, answer);
                    let data = Evaluated { model: factor.to_string(), judged, moved: None };
                    self.asking.recorded(id(item), first + place, item, &data)
                });
                items.collect()
            })?;
        }
        let tried = self.tried(&run.read(), &*benchmark)?;
        let scores: Vec<(f64, f64)> = tried.iter().map(|tried| (tried.factor, tried.score)).collect();
        let factor = best(&scores).context("there is a factor")?;
        run.save_adapter(&policy.chat, &adapter.scaled(backend, factor as f32))?;
        Ok(json!(Chosen { factor, tried }))
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        let Chosen { factor, tried } = serde_json::from_value(read.detail()?)?;
        let (name, from) = (read.name(), read.input_shown("from"));
        let scores: Vec<String> =
            tried.iter().map(|tried| format!("{} scores {:.1}", tried.factor, 100.0 * tried.score)).collect();
        report.notes.push(format!(
            "{name}: the adapter of {from} at {factor} scores best on the development prompts ({}).",
            scores.join(", ")
        ));
        Ok(())
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        let scales = summary.entry("scales").or_insert_with(|| json!({}));
        scales[read.name()] = read.detail()?;
        Ok(())
    }
}

impl Scale {
    /// What the recorded answers of each factor come to.
    fn tried(&self, read: &Reader<'_>, benchmark: &dyn Benchmark) -> Result<Vec<Tried>> {
        let mut answers: BTreeMap<String, Vec<Judged>> = BTreeMap::new();
        let items: Vec<TypedItem<Evaluated>> = read.own()?;
        for item in items {
            answers.entry(item.data.model).or_default().push(item.data.judged);
        }
        let tried = self.factors.iter().map(|factor| {
            let answers = answers.remove(&factor.to_string()).unwrap_or_default();
            let summary =
                summarise(benchmark, answers).with_context(|| format!("the answers at {factor}"))?;
            let figures = summary.figures.of.iter();
            let measures = figures.map(|(key, figure)| ((*key).to_owned(), figure.value())).collect();
            Ok(Tried { factor: *factor, score: score(&summary), measures })
        });
        tried.collect()
    }
}

/// Refuses prompts that leave a part of the score unmeasured: without harmless ones the strongest factor, which refuses
/// everything, would score best.
fn check_scored(benchmark: &dyn Benchmark) -> Result<()> {
    let asked = |measure: &Measure| benchmark.items().iter().any(|item| measure.covers(item.group));
    match benchmark.measures().iter().find(|measure| measure.scored && !asked(measure)) {
        None => Ok(()),
        Some(missing) => Err(UsageError(format!(
            "no prompt measures {}, which is a part of the score\nhint: give prompts of the kinds {}",
            missing.title,
            missing.groups.join(", ")
        ))
        .into()),
    }
}

fn no_adapter(from: &str) -> String {
    format!(
        "from = \"{from}\": that model has no adapter to scale\n\
         hint: name a model that was trained with method = \"lora\""
    )
}

/// The factor with the highest score; of several the nearest to 1, and of two as near the weaker.
fn best(tried: &[(f64, f64)]) -> Option<f64> {
    let better = |a: &(f64, f64), b: &(f64, f64)| {
        let far = |factor: f64| (factor - 1.0).abs();
        // Factors such as 0.8 and 1.2 are as near as they are written.
        let nearer = if (far(a.0) - far(b.0)).abs() < 1e-9 { a.0 < b.0 } else { far(a.0) < far(b.0) };
        a.1 > b.1 || a.1 == b.1 && nearer
    };
    let mut best: Option<&(f64, f64)> = None;
    for tried in tried {
        if best.is_none_or(|best| better(tried, best)) {
            best = Some(tried);
        }
    }
    best.map(|(factor, _)| *factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_factor_is_that_of_the_highest_score_or_the_nearest_to_one() {
        for (tried, expected) in [
            (&[(0.6, 0.1), (1.0, 0.3), (1.4, 0.2)][..], 1.0),
            (&[(0.6, 0.1), (1.0, 0.3), (1.4, 0.4)], 1.4),
            (&[(0.6, 0.4), (0.8, 0.4), (1.0, 0.3), (1.4, 0.4)], 0.8),
            (&[(1.2, 0.4), (0.8, 0.4)], 0.8),
            (&[(0.5, -0.4), (2.0, -0.4)], 0.5),
        ] {
            assert_eq!(best(tried), Some(expected), "{tried:?}");
        }
    }

    #[test]
    fn a_score_without_one_of_its_parts_is_refused() {
        let prompt = |kind: &str| solon_records::Prompt {
            id: kind.to_owned(),
            messages: vec![solon_records::Message::user("A prompt?")],
            kind: Some(kind.to_owned()),
            category: None,
            pair: None,
        };
        let asking = Asking::new("safety", None, true, Settings::new()).unwrap();
        let checked = |kinds: &[&str]| {
            let prompts = kinds.iter().map(|kind| prompt(kind)).collect();
            check_scored(&*asking.open(prompts).unwrap()).map_err(|error| error.to_string())
        };
        assert_eq!(checked(&["harmful", "harmless", "sounds-harmful"]), Ok(()));
        let error = checked(&["harmful", "sounds-harmful"]).unwrap_err();
        assert!(error.contains("harmless answered") && error.contains("kinds harmless"), "{error}");
    }

    #[test]
    fn factors_are_checked() {
        let scale = |keys: &str| toml::from_str::<Own>(keys).map_err(|error| error.to_string());
        assert_eq!(scale("").unwrap().factors, [0.6, 0.8, 1.0, 1.2, 1.4]);
        for (bad, part) in [
            ("factors = []", "empty"),
            ("factors = [1.0, 0]", "above 0"),
            ("factors = [nan]", "above 0"),
            ("factors = [1, 1.0]", "twice"),
        ] {
            assert!(scale(bad).is_err_and(|error| error.contains(part)), "{bad}");
        }
    }
}
