//! The pairs of a run with what everybody says of them: the labellers, each principle by itself, and people.
//!
//! Contract: a pair that several stages label is one comparison. The default annotator says what the first of them says, which is
//! what the run holds.

use crate::items::{CandidatePrinciple, Labelled, PrincipleVote};
use crate::votes::{pair_hash, read_votes};
use anyhow::{Result, bail};
use solon_data::annotated_pairs::{
    Annotation, Annotator, AnnotatorType, Comparison, DEFAULT_ANNOTATOR, Response,
};
use solon_data::ledger::{ItemKind, Ledger, TypedItem};
use solon_feedback::{Pass, prompt_text};
use solon_records::{Message, Pair, Prompt};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// How a stage's labels were made, as its items tell.
#[derive(Default)]
pub struct Labelling {
    /// Who labelled.
    pub sources: BTreeSet<String>,
    /// The ways in which a model was asked.
    pub asks: BTreeSet<&'static str>,
    /// Whether two answers were shown in both orders.
    pub both_orders: bool,
    /// Labels that are made of votes.
    pub voted: usize,
    /// All labels.
    pub labels: usize,
}

/// Comparisons in the making.
pub struct Pairs<'a> {
    ledger: &'a Ledger,
    /// Several stages label: annotators are told apart by them.
    several: bool,
    pub annotators: BTreeMap<String, Annotator>,
    pub comparisons: Vec<Comparison>,
    /// Of each labelling stage, in their order.
    pub labellings: Vec<(String, Labelling)>,
    /// By pairs' ids.
    places: HashMap<String, usize>,
}

impl<'a> Pairs<'a> {
    pub fn new(ledger: &'a Ledger, several: bool) -> Self {
        let run = Annotator {
            name: Some("run".to_owned()),
            description: "The preference that the run holds: of the first stage that labels the pair"
                .to_owned(),
            r#type: AnnotatorType::Unknown,
        };
        Self {
            ledger,
            several,
            annotators: [(DEFAULT_ANNOTATOR.to_owned(), run)].into(),
            comparisons: Vec::new(),
            labellings: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Adds what a stage of this kind says.
    pub fn add(&mut self, (stage, kind): (&str, &str), items: &[TypedItem<Labelled>]) -> Result<()> {
        let mut labelling = Labelling::default();
        for item in items {
            let Labelled { preference, label, .. } = &item.data;
            let (place, first_is_a) = self.comparison(item, stage)?;
            // Of the answer that stands first in the comparison.
            let as_shown = |p: f64, of_first: bool| if of_first { p } else { 1.0 - p };
            let chosen_is_a = self.comparisons[place].response_a.text == preference.chosen;
            let p = as_shown(preference.probability, chosen_is_a);
            let source = preference.source.clone().unwrap_or_else(|| stage.to_owned());
            let (id, annotator) = self.annotator(&source, stage, kind);
            self.annotators.entry(id.clone()).or_insert(annotator);
            let annotations = &mut self.comparisons[place].annotations;
            annotations.entry(DEFAULT_ANNOTATOR.to_owned()).or_insert_with(|| Annotation::of(p));
            annotations.insert(id, Annotation::of(p));
            labelling.sources.insert(source);
            labelling.labels += 1;
            let Some(label) = label else { continue };
            labelling.asks.insert(label.ask.name());
            labelling.both_orders |= label.letters().is_some();
            labelling.voted += usize::from(label.evidence.iter().any(|evidence| !evidence.votes.is_empty()));
            for (principle, p) in label.by_principle() {
                let id = self.principle(stage, principle)?;
                let annotation = Annotation::of(as_shown(p, first_is_a));
                self.comparisons[place].annotations.insert(id, annotation);
            }
        }
        if !items.is_empty() {
            self.labellings.push((stage.to_owned(), labelling));
        }
        Ok(())
    }

    /// Adds what a labeller says by inferred principles about pairs that are there.
    pub fn add_votes_by_principle(&mut self, stage: &str) -> Result<()> {
        let candidates: Vec<TypedItem<CandidatePrinciple>> = self.ledger.items(stage)?;
        for vote in self.ledger.kept_items::<PrincipleVote>(stage)? {
            let Some(label) = vote.data.label else { continue };
            // The better answer stands first where it is asked about.
            let Some(&place) = self.places.get(&vote.data.pair) else { continue };
            let asked: Labelled = serde_json::from_value(self.ledger.item(&vote.data.pair)?.data)?;
            let first_is_a = self.comparisons[place].response_a.text == asked.preference.chosen;
            let candidate = candidates.iter().find(|candidate| candidate.data.id == vote.data.principle);
            let Some(candidate) = candidate else { continue };
            let description = format!("Select the response that {}", candidate.data.rule);
            let annotator = Annotator { name: None, description, r#type: AnnotatorType::Principle };
            self.annotators.entry(candidate.id.clone()).or_insert(annotator);
            let p = if first_is_a { label.probability } else { 1.0 - label.probability };
            self.comparisons[place].annotations.insert(candidate.id.clone(), Annotation::of(p));
        }
        Ok(())
    }

    /// Adds the votes of people in a file, on pairs with these texts. Returns how many are on others.
    pub fn add_people(&mut self, file: &Path) -> Result<usize> {
        // Several comparisons may have the same texts.
        let mut by_hash: HashMap<_, Vec<(usize, bool)>> = HashMap::new();
        for (place, one) in self.comparisons.iter().enumerate() {
            let (a, b) = (&one.response_a.text, &one.response_b.text);
            by_hash.entry(pair_hash(&one.prompt, b, a)).or_default().push((place, false));
            by_hash.entry(pair_hash(&one.prompt, a, b)).or_default().push((place, true));
        }
        let mut on_others = 0;
        for (vote, hash) in read_votes(file)? {
            let Some(places) = by_hash.get(&hash) else {
                on_others += 1;
                continue;
            };
            let (name, description) = match vote.pass {
                Pass::Label => (vote.annotator.name().to_owned(), "A person who voted"),
                Pass::Adjudication => (
                    format!("{} (adjudication)", vote.annotator),
                    "A person who decided what votes left open",
                ),
                Pass::Repeat => continue,
            };
            let id = format!("person/{name}");
            let annotator = Annotator {
                name: Some(name.clone()),
                description: description.to_owned(),
                r#type: AnnotatorType::Human,
            };
            self.annotators.entry(id.clone()).or_insert(annotator);
            for &(place, first_is_a) in places {
                let p = if first_is_a { vote.probability } else { 1.0 - vote.probability };
                let annotation = Annotation::of(p);
                let known = self.comparisons[place].annotations.insert(id.clone(), annotation.clone());
                if known.is_some_and(|known| known != annotation) {
                    bail!(
                        "{}: two votes of {name} on one pair contradict each other\nhint: take one of them out",
                        file.display()
                    );
                }
            }
        }
        Ok(on_others)
    }

    /// The place of an item's pair, and whether the pair's first answer is the comparison's.
    fn comparison(&mut self, item: &TypedItem<Labelled>, stage: &str) -> Result<(usize, bool)> {
        let preference = &item.data.preference;
        let parent = self.ledger.parents(&item.id)?.into_iter().find(|link| link.role == "pair");
        let sampled = match &parent {
            Some(parent) => self.ledger.find_item(&parent.id)?.filter(|item| item.kind == ItemKind::Pair),
            None => None,
        };
        let (id, [first, second]) = match sampled {
            Some(sampled) => {
                let pair: Pair = serde_json::from_value(sampled.data)?;
                (sampled.id, [pair.first, pair.second])
            }
            None => (item.id.clone(), [preference.chosen.clone(), preference.rejected.clone()]),
        };
        let place = match self.places.get(&id) {
            Some(place) => *place,
            None => {
                let metadata = self.metadata(item, stage)?;
                self.comparisons.push(comparison(&id, &preference.prompt, [&first, &second], metadata));
                self.comparisons.len() - 1
            }
        };
        self.places.insert(id, place);
        self.places.insert(item.id.clone(), place);
        Ok((place, self.comparisons[place].response_a.text == first))
    }

    /// The stage that labelled it, and what is known of its prompt.
    fn metadata(&self, item: &TypedItem<Labelled>, stage: &str) -> Result<BTreeMap<String, String>> {
        let mut metadata = BTreeMap::from([("stage".to_owned(), stage.to_owned())]);
        let prompt = match &item.data.prompt_id {
            Some(prompt) => self.ledger.find_item(prompt)?,
            None => None,
        };
        if let Some(item) = prompt.filter(|item| item.kind == ItemKind::Prompt) {
            let prompt: Prompt = serde_json::from_value(item.data)?;
            metadata.extend(prompt.kind.map(|kind| ("prompt_kind".to_owned(), kind)));
            metadata.extend(prompt.category.map(|category| ("prompt_category".to_owned(), category)));
            metadata.insert("prompt_id".to_owned(), item.id);
        }
        Ok(metadata)
    }

    /// The id of a principle by which a stage asked.
    fn principle(&mut self, stage: &str, name: &str) -> Result<String> {
        let item = format!("principle/{name}");
        let id = if self.several { format!("principle/{stage}/{name}") } else { item.clone() };
        if !self.annotators.contains_key(&id) {
            let mut question =
                self.ledger.find_item(&item)?.map_or_else(|| name.to_owned(), |item| item.text);
            if self.several {
                question += &format!(" (as {stage} asked)");
            }
            let annotator = Annotator { name: None, description: question, r#type: AnnotatorType::Principle };
            self.annotators.insert(id.clone(), annotator);
        }
        Ok(id)
    }

    /// Who labelled, by what the label names as its source and by its stage: one model may label in several stages, in other ways.
    /// However many people voted, they are one annotator here; their files of votes tell them apart.
    fn annotator(&self, source: &str, stage: &str, kind: &str) -> (String, Annotator) {
        if source.starts_with("human (") {
            let description = "The label that people's votes make".to_owned();
            let people =
                Annotator { name: Some("people".to_owned()), description, r#type: AnnotatorType::Human };
            return ("labeller/people".to_owned(), people);
        }
        let (description, r#type) = match kind {
            "label" => (format!("The model that labelled in the stage {stage}"), AnnotatorType::Ai),
            _ => (format!("The stage {stage} ({kind})"), AnnotatorType::Unknown),
        };
        let name = if self.several { format!("{source} ({stage})") } else { source.to_owned() };
        (format!("labeller/{name}"), Annotator { name: Some(name), description, r#type })
    }
}

fn comparison(
    id: &str,
    prompt: &[Message],
    [a, b]: [&str; 2],
    metadata: BTreeMap<String, String>,
) -> Comparison {
    let response = |text: &str| Response { text: text.to_owned() };
    Comparison {
        id: id.to_owned(),
        prompt: prompt_text(prompt),
        response_a: response(a),
        response_b: response(b),
        annotations: BTreeMap::new(),
        metadata,
    }
}
