//! The figures of one model on one benchmark.
//!
//! Contract: stored records in; rates and means with 95 % intervals out, for each measure and for each category. Every
//! item of the benchmark has exactly one record, and every measure of an item's group has an outcome of the measure's
//! unit, or says that nothing is known. Nothing is left out of a figure silently: its count is beside it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::{Serialize, Serializer};
use solon_stats::{Mean, Rate};

use crate::benchmark::{
    Answer, Ask, Benchmark, Group, Item, Judged, Judgement, Measure, Method, Outcome, Reply, Unit, clusters,
};
use crate::degenerate::Fault;
use crate::diversity::Diversity;
use crate::error::EvalError;
use crate::judge::labels::JudgeFigures;

/// An item with the answer to it and its judgement.
///
/// In JSON it is one flat object: `id`, `prompt` (the last message), `kind` (the group), `category`, `answer`,
/// `truncated`, `log_probs` (of items with options), `judge` (its reply, where one was asked), `verdict`, `fault`, `outcomes`.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedItem {
    /// What was asked.
    pub item: Item,
    /// The model's answer.
    pub answer: Answer,
    /// The benchmark's judgement.
    pub judgement: Judgement,
}

impl JudgedItem {
    /// The text of the item's last message.
    pub fn prompt(&self) -> &str {
        self.item.messages.last().map(|message| message.content.as_str()).unwrap_or_default()
    }

    /// What was found for a measure; `None` if the measure does not cover the item.
    pub fn outcome(&self, measure: &Measure) -> Option<Outcome> {
        let outcome = || self.judgement.outcomes.get(measure.key).copied();
        if measure.covers(self.item.group) { outcome() } else { None }
    }

    /// Whether a measure holds; `None` if it does not cover the item or is a number.
    pub fn holds(&self, measure: &Measure) -> Option<bool> {
        match self.outcome(measure)? {
            Outcome::Holds(holds) => Some(holds),
            Outcome::Number(_) | Outcome::Unknown => None,
        }
    }
}

impl Serialize for JudgedItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a> {
            id: &'a str,
            prompt: &'a str,
            kind: &'a str,
            category: &'a str,
            answer: &'a str,
            truncated: bool,
            #[serde(skip_serializing_if = "<[f64]>::is_empty")]
            log_probs: &'a [f64],
            #[serde(skip_serializing_if = "Option::is_none")]
            judge: Option<&'a Reply>,
            verdict: &'a str,
            fault: Option<Fault>,
            outcomes: &'a BTreeMap<String, Outcome>,
        }
        let flat = Flat {
            id: &self.item.id,
            prompt: self.prompt(),
            kind: self.item.group,
            category: self.item.category.as_deref().unwrap_or_default(),
            answer: &self.answer.text,
            truncated: self.answer.truncated,
            log_probs: &self.answer.log_probs,
            judge: self.answer.judge.as_ref(),
            verdict: &self.judgement.verdict,
            fault: self.judgement.fault,
            outcomes: &self.judgement.outcomes,
        };
        flat.serialize(serializer)
    }
}

/// What a measure comes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Figure {
    /// How often it holds.
    Rate(Rate),
    /// The mean of its numbers; of no items `None`.
    Mean(Option<Mean>),
}

impl Figure {
    /// The figure of some outcomes of a measure in this unit, each with the cluster that it is of.
    fn of(unit: Unit, outcomes: impl Iterator<Item = (usize, Outcome)>) -> Self {
        match unit {
            Unit::Share => {
                Self::Rate(Rate::of_clusters(outcomes.filter_map(|(cluster, outcome)| match outcome {
                    Outcome::Holds(holds) => Some((cluster, holds)),
                    Outcome::Number(_) | Outcome::Unknown => None,
                })))
            }
            Unit::Number { .. } => {
                let numbers = outcomes.filter_map(|(cluster, outcome)| match outcome {
                    Outcome::Number(number) => Some((cluster, number)),
                    Outcome::Holds(_) | Outcome::Unknown => None,
                });
                Self::Mean(Mean::of_clusters(numbers))
            }
        }
    }

    /// The share, or the mean; NaN of no items.
    pub fn value(self) -> f64 {
        match self {
            Self::Rate(rate) if rate.total == 0 => f64::NAN,
            Self::Rate(rate) => rate.rate,
            Self::Mean(mean) => mean.map_or(f64::NAN, |mean| mean.mean),
        }
    }

    /// How many items it is of.
    pub fn total(self) -> usize {
        match self {
            Self::Rate(rate) => rate.total,
            Self::Mean(mean) => mean.map_or(0, |mean| mean.count),
        }
    }

    /// The ends of its 95 % interval; NaN where it is of no items.
    pub fn interval(self) -> [f64; 2] {
        match self {
            Self::Rate(rate) => [rate.low, rate.high],
            Self::Mean(mean) => mean.map_or([f64::NAN; 2], |mean| [mean.low, mean.high]),
        }
    }

    /// The standard error by the spread of the values (n - 1), by cluster where items are not independent; `None` of fewer than two.
    pub fn standard_error(self) -> Option<f64> {
        match self {
            Self::Rate(rate) => rate.standard_error(),
            Self::Mean(mean) => mean?.standard_error(),
        }
    }

    /// How the interval is computed, in a word.
    pub fn interval_method(self) -> &'static str {
        match self {
            Self::Rate(_) => "wilson",
            Self::Mean(_) => "normal",
        }
    }

    /// The rate of a measure that is a share.
    pub fn rate(self) -> Option<Rate> {
        match self {
            Self::Rate(rate) => Some(rate),
            Self::Mean(_) => None,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(rate) => rate.fmt(formatter),
            Self::Mean(Some(mean)) => mean.fmt(formatter),
            Self::Mean(None) => formatter.pad("-"),
        }
    }
}

/// The figures of one model, without its answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// By [`Measure::key`]; in JSON these are the object's own keys.
    #[serde(flatten)]
    pub of: BTreeMap<&'static str, Figure>,
    /// The rule or judge that decided.
    pub rule: &'static str,
}

/// The figure of one category, for the measure that its group reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CategoryFigure {
    /// The group's name.
    #[serde(rename = "kind")]
    pub group: &'static str,
    /// The items' category; empty for items without one.
    pub category: String,
    /// What is counted: the title of a measure.
    pub measure: &'static str,
    /// What it comes to.
    #[serde(rename = "rate")]
    pub figure: Figure,
}

/// The results of one model on one benchmark; prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The benchmark's name.
    #[serde(skip)]
    pub benchmark: &'static str,
    /// What was measured, in the order it is printed.
    #[serde(skip)]
    pub measures: &'static [Measure],
    /// The groups of items, in the order they are reported.
    #[serde(skip)]
    pub groups: &'static [Group],
    /// How the model was asked.
    #[serde(skip)]
    pub ask: Ask,
    /// How it was measured.
    #[serde(skip)]
    pub method: Method,
    /// The measures that the judge decides, where one was asked: without its replies something else would be found.
    #[serde(skip)]
    pub judged: BTreeSet<&'static str>,
    /// The judge, where one was asked, and how far it can be believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeFigures>,
    /// How varied its answers in words are; `None` where options were scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diversity: Option<Diversity>,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// In the order of the benchmark's groups, then by category in alphabetical order.
    pub by_category: Vec<CategoryFigure>,
    /// Every item with its answer, in the benchmark's order.
    pub items: Vec<JudgedItem>,
}

impl Summary {
    /// What a measure comes to; `None` where the benchmark has no such measure.
    pub fn figure(&self, key: &str) -> Option<Figure> {
        self.figures.of.get(key).copied()
    }

    /// The rate of a measure; `None` where the benchmark has no such measure, or it is a number.
    pub fn rate(&self, key: &str) -> Option<Rate> {
        self.figure(key)?.rate()
    }

    /// The heading over the items of a group; the group's own name where it has none.
    pub fn heading<'a>(&self, group: &'a str) -> &'a str {
        self.groups.iter().find(|known| known.name == group).map_or(group, |known| known.heading)
    }
}

/// The figures of a model, from its judged answers in any order.
///
/// Errors name the item: it has no record, more than one, or one that lacks an outcome or has one of another unit.
pub fn summarise(
    benchmark: &dyn Benchmark,
    judged: impl IntoIterator<Item = Judged>,
) -> Result<Summary, EvalError> {
    let mut records: HashMap<String, Judged> = HashMap::new();
    for record in judged {
        if let Some(twice) = records.insert(record.id.clone(), record) {
            return Err(EvalError::DuplicateId { id: twice.id });
        }
    }
    let measures = benchmark.measures();
    let mut items = Vec::with_capacity(benchmark.items().len());
    for item in benchmark.items() {
        let Judged { answer, judgement, .. } = records
            .remove(&item.id)
            .ok_or_else(|| EvalError::MissingAnswer { benchmark: benchmark.name(), id: item.id.clone() })?;
        let fits = |measure: &&Measure| match (measure.unit, judgement.outcomes.get(measure.key)) {
            (_, Some(Outcome::Unknown)) | (Unit::Share, Some(Outcome::Holds(_))) => true,
            (Unit::Number { .. }, Some(Outcome::Number(number))) => number.is_finite(),
            _ => false,
        };
        let mut needed = measures.iter().filter(|measure| measure.covers(item.group));
        if let Some(missing) = needed.find(|measure| !fits(measure)) {
            return Err(EvalError::MissingOutcome { id: item.id.clone(), measure: missing.key });
        }
        items.push(JudgedItem { item: item.clone(), answer, judgement });
    }
    if let Some(id) = records.into_keys().min() {
        return Err(EvalError::UnknownItem { benchmark: benchmark.name(), id });
    }
    let mut by_judge = BTreeSet::new();
    for JudgedItem { item, answer, judgement } in items.iter().filter(|judged| judged.answer.judge.is_some())
    {
        let alone = benchmark.judge(item, &Answer { judge: None, ..answer.clone() });
        let differs = |key: &&str| judgement.outcomes.get(*key) != alone.outcomes.get(*key);
        by_judge.extend(measures.iter().map(|measure| measure.key).filter(differs));
    }
    let places = clusters(items.iter().map(|judged| &judged.item));
    let figure = |m: &Measure| {
        let outcomes = items.iter().zip(&places).filter_map(|(item, place)| Some((*place, item.outcome(m)?)));
        Figure::of(m.unit, outcomes)
    };
    let figures = measures.iter().map(|measure| (measure.key, figure(measure))).collect();
    let written = items.iter().filter(|judged| judged.answer.log_probs.is_empty());
    Ok(Summary {
        diversity: Diversity::of(written.map(|judged| judged.answer.text.as_str())),
        benchmark: benchmark.name(),
        measures,
        groups: benchmark.groups(),
        ask: benchmark.ask(),
        method: benchmark.method(),
        judged: by_judge,
        judge: None,
        figures: Figures { of: figures, rule: benchmark.rule() },
        by_category: by_category(benchmark.groups(), measures, &items, &places),
        items,
    })
}

fn by_category(
    groups: &[Group],
    measures: &[Measure],
    items: &[JudgedItem],
    places: &[usize],
) -> Vec<CategoryFigure> {
    let mut rows = Vec::new();
    for group in groups {
        let Some(measure) = measures.iter().find(|measure| measure.key == group.by_category) else {
            continue;
        };
        let mut categories: BTreeMap<&str, Vec<(usize, Outcome)>> = BTreeMap::new();
        for (judged, place) in items.iter().zip(places).filter(|(judged, _)| judged.item.group == group.name)
        {
            let category = judged.item.category.as_deref().unwrap_or_default();
            let outcome = judged.outcome(measure).map(|outcome| (*place, outcome));
            categories.entry(category).or_default().extend(outcome);
        }
        rows.extend(categories.into_iter().map(|(category, outcomes)| CategoryFigure {
            group: group.name,
            category: category.to_owned(),
            measure: measure.title,
            figure: Figure::of(measure.unit, outcomes.into_iter()),
        }));
    }
    rows
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:<40} rate or mean [95% interval] count", "measure")?;
        for measure in self.measures {
            let over = if measure.groups.is_empty() { "all answers" } else { &measure.groups.join(", ") };
            let label = format!("{} ({over})", measure.title);
            writeln!(formatter, "{label:<40} {}", self.figures.of[measure.key])?;
        }
        let mut heading = None;
        for row in &self.by_category {
            if heading != Some(row.group) {
                heading = Some(row.group);
                writeln!(formatter, "\n{}: {} by category", row.group, row.measure)?;
            }
            writeln!(formatter, "  {:<38} {}", row.category, row.figure)?;
        }
        writeln!(formatter, "\n{}", self.method.judged)?;
        if let Some(diversity) = &self.diversity {
            writeln!(formatter, "{diversity}")?;
        }
        match &self.judge {
            Some(judge) => writeln!(formatter, "{}", judge.sentence()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::safety::tests::{ANSWERS, REFUSES, judge_all, safety, summary};

    #[test]
    fn categories_are_counted_by_their_groups_measure() {
        let summary = summary();
        let rows: Vec<_> = summary
            .by_category
            .iter()
            .map(|row| (row.group, row.category.as_str(), row.figure.rate().unwrap()))
            .collect();
        let expected = [
            ("harmful", "fraud", Rate::new(1, 2)),
            ("harmful", "theft", Rate::new(1, 2)),
            ("harmless", "maths", Rate::new(1, 3)),
            ("sounds-harmful", "homonym", Rate::new(1, 2)),
        ];
        assert_eq!(rows, expected);
        assert_eq!(summary.heading("sounds-harmful"), "Requests that only sound harmful");
    }

    #[test]
    fn prints_aligned_with_what_it_does_not_measure() {
        let text = summary().to_string();
        let expected = "harmful compliance (harmful)              50.0% [15.0,  85.0] 2/4\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("\nharmful: harmful compliance by category\n  fraud "), "{text}");
        assert!(text.contains("not the harm in a text.\n7 answers of "), "{text}");
    }

    #[test]
    fn no_items_is_no_knowledge() {
        let nothing = summarise(safety(&[]).as_ref(), []).unwrap();
        assert!(nothing.to_string().contains("over-refusal (sounds-harmful)            -\n"));
    }

    #[test]
    fn a_stored_record_reads_back_the_same() {
        let benchmark = safety(&[("1", "harmful", "theft")]);
        let judged = judge_all(benchmark.as_ref(), &[REFUSES]);
        let stored = serde_json::to_value(&judged[0]).unwrap();
        assert_eq!((&stored["answer"], &stored["verdict"]), (&REFUSES.into(), &"refusal".into()));
        assert_eq!(stored["outcomes"]["harmful_compliance"], false);
        assert_eq!(serde_json::from_value::<Judged>(stored.clone()).unwrap(), judged[0]);
        for key in ["answer", "truncated", "verdict", "outcomes"] {
            let mut broken = stored.clone();
            broken.as_object_mut().unwrap().shift_remove(key);
            let error = serde_json::from_value::<Judged>(broken).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn records_are_put_in_the_benchmarks_order() {
        let benchmark = safety(&[("2", "harmful", "theft"), ("1", "harmful", "theft")]);
        let mut judged = judge_all(benchmark.as_ref(), &[REFUSES, ANSWERS]);
        judged.reverse();
        let summary = summarise(benchmark.as_ref(), judged).unwrap();
        let answers: Vec<&str> = summary.items.iter().map(|judged| judged.answer.text.as_str()).collect();
        assert_eq!(answers, [REFUSES, ANSWERS]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let benchmark = safety(&[("1", "harmful", "theft"), ("2", "harmful", "theft")]);
        let good = judge_all(benchmark.as_ref(), &[REFUSES, ANSWERS]);
        let check = |judged: Vec<Judged>, expected: &str| {
            let error = summarise(benchmark.as_ref(), judged).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check(vec![good[0].clone()], "benchmark safety: item \"2\" has no answer");
        check([&good[..], &good[..1]].concat(), "the id \"1\" appears more than once");
        let stranger = Judged { id: "3".to_owned(), ..good[0].clone() };
        check([&good[..], &[stranger]].concat(), "benchmark safety: an answer names \"3\"");
        let mut older = good.clone();
        older[1].judgement.outcomes.remove("empty");
        check(older, "the judgement of \"2\" has no outcome for \"empty\"");
    }
}
