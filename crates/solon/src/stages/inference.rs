//! What an `infer` stage's items add up to: which principles are kept, how much of the held-out preferences each explains, and the
//! constitution.
//!
//! Contract: a function of the ledger and the stage's settings. The held-out pairs choose no principle. They decide one thing: whether what
//! was kept is better than chance, and so whether there is a constitution at all.

use super::infer::{Candidate, Infer};
use crate::items::{CandidatePrinciple, Labelled, PrincipleVote, Proposal};
use crate::report;
use crate::run::Reader;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use solon_data::ledger::TypedItem;
use solon_feedback::{
    Fate, Principle, SelectSettings, Stance, Tally, inferred_constitution, select, split, together,
};
use solon_records::Pair;
use solon_stats::Rate;
use std::collections::{BTreeMap, HashMap};

/// The pairs in two parts; of each pair the `first` answer is the better one.
pub struct Parts {
    /// For these principles are proposed, and these choose them.
    pub training: Vec<Pair>,
    /// These measure what was chosen.
    pub held_out: Vec<Pair>,
    /// Pairs that are in neither, by the reason.
    left_out: BTreeMap<String, usize>,
}

impl Parts {
    /// Reads the pairs of the input.
    pub fn of(settings: &Infer, read: &Reader<'_>) -> Result<Self> {
        let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
        let mut pairs = Vec::new();
        for item in read.items::<Labelled>("pairs")? {
            let preference = item.data.preference;
            let fault = match preference.probability > 0.5 {
                false => Some("no answer is better"),
                true => (preference.chosen.trim() == preference.rejected.trim())
                    .then_some("both answers are the same"),
            };
            match fault {
                Some(fault) => *left_out.entry(fault.to_owned()).or_default() += 1,
                None => pairs.push(Pair {
                    id: item.id,
                    prompt: preference.prompt,
                    first: preference.chosen,
                    second: preference.rejected,
                    cut_off: preference.cut_off,
                    principle_id: None,
                }),
            }
        }
        let all = pairs.len();
        if settings.rows > 0 && settings.rows < all {
            pairs = (0..settings.rows).map(|place| pairs[place * all / settings.rows].clone()).collect();
            left_out.insert("beyond `rows`".to_owned(), all - settings.rows);
        }
        let parts = split(&pairs, settings.hold_out_every.get());
        let of = |places: Vec<usize>| places.into_iter().map(|place| pairs[place].clone()).collect();
        Ok(Self { training: of(parts.training), held_out: of(parts.held_out), left_out })
    }

    /// Refuses pairs that cannot be divided.
    pub fn check(&self, input: String) -> Result<()> {
        if self.training.is_empty() || self.held_out.is_empty() {
            let (training, held_out) = (self.training.len(), self.held_out.len());
            bail!(
                "{input} has too few pairs whose better answer is known: {training} to learn from and {held_out} to measure with\n\
                 hint: give more pairs with different requests, or a smaller `hold_out_every`"
            );
        }
        Ok(())
    }
}

/// Of what the stage told: [`Inference`].
pub const INFERENCE: &str = "inference";

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// What was kept predicts held-out pairs.
    Found,
    /// No reply held a rule of the form that was asked for.
    NothingProposed,
    /// No principle explains the training pairs.
    NothingKept,
    /// What was kept does not predict held-out pairs.
    NoBetterThanChance,
}

/// Votes counted, with the rates they make.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(from = "Tally")]
pub struct Figures {
    #[serde(flatten)]
    pub tally: Tally,
    /// How often it is right where it votes; guessing is right on half.
    pub accuracy: Rate,
    /// The share of all pairs that it explains.
    pub explained: Rate,
}

impl From<Tally> for Figures {
    fn from(tally: Tally) -> Self {
        Self { accuracy: tally.accuracy(), explained: tally.explained(), tally }
    }
}

/// A principle that was voted on.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Voted {
    /// Its id.
    pub id: String,
    /// What the preferred answer does.
    pub rule: String,
    /// How often it was proposed.
    pub proposals: usize,
    /// For how many pairs.
    pub proposed_for: usize,
    /// What became of it.
    pub fate: Fate,
    /// On the pairs that chose it.
    pub training: Figures,
    /// On the pairs kept back; of kept principles.
    pub held_out: Option<Figures>,
}

/// What was found.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Inference {
    /// How it ended.
    pub outcome: Outcome,
    /// Pairs that principles were proposed for and chosen on.
    pub training_pairs: usize,
    /// Pairs that nothing has seen before.
    pub held_out_pairs: usize,
    /// Pairs that were left out, by the reason.
    pub left_out: BTreeMap<String, usize>,
    /// Questions for rules.
    pub questions: usize,
    /// Rules that were read from the replies.
    pub rules: usize,
    /// What of the replies could not be used, by the reason.
    pub refused: BTreeMap<String, usize>,
    /// Rules that differ in more than their wording.
    pub different_rules: usize,
    /// The principles that were voted on; kept ones first, best first.
    pub principles: Vec<Voted>,
    /// The majority of the kept principles' votes on the held-out pairs.
    pub together: Option<Figures>,
    /// "The longer answer is the better one", on the held-out pairs.
    pub longer: Figures,
    /// What guessing gets right.
    pub chance: f64,
}

impl Inference {
    /// Reads it off the stage's items.
    pub fn of(settings: &Infer, read: &Reader<'_>) -> Result<Self> {
        let parts = Parts::of(settings, read)?;
        let replies: Vec<TypedItem<Proposal>> = read.own_with_dropped()?;
        let (mut rules, mut refused) = (0, BTreeMap::new());
        for reply in &replies {
            let faults = reply.data.proposed.iter().flat_map(|proposed| &proposed.refused);
            let missing = reply.data.missing.iter().map(|missing| missing.kind.name());
            for reason in faults.map(|fault| fault.name()).chain(missing) {
                *refused.entry(reason.to_owned()).or_default() += 1;
            }
            rules += reply.data.proposed.as_ref().map_or(0, |proposed| proposed.rules.len());
        }
        let all: Vec<TypedItem<CandidatePrinciple>> = read.own_with_dropped()?;
        let candidates: Vec<&CandidatePrinciple> =
            all.iter().filter(|item| item.dropped_reason.is_none()).map(|item| &item.data).collect();
        let cast = Cast::of(settings, read)?;
        let votes: Vec<Vec<Option<Stance>>> =
            candidates.iter().map(|candidate| cast.of_principle(&candidate.id, &parts.training)).collect();
        let chosen = SelectSettings { most: settings.principles.get(), relevance: settings.relevance };
        let fates = select(&votes, &chosen);
        let mut held_out = Vec::new();
        let mut principles = Vec::new();
        for ((candidate, votes), fate) in candidates.iter().zip(&votes).zip(fates) {
            let own = cast.of_principle(&candidate.id, &parts.held_out);
            let measured = (fate == Fate::Kept).then(|| Figures::from(Tally::of(own.iter().copied())));
            if fate == Fate::Kept {
                held_out.push(own);
            }
            principles.push(Voted {
                id: candidate.id.clone(),
                rule: candidate.rule.clone(),
                proposals: candidate.proposals,
                proposed_for: candidate.pairs,
                fate,
                training: Figures::from(Tally::of(votes.iter().copied())),
                held_out: measured,
            });
        }
        principles.sort_by(|one, other| {
            let kept = |voted: &Voted| voted.fate != Fate::Kept;
            let by_accuracy = other.training.accuracy.low.total_cmp(&one.training.accuracy.low);
            kept(one).cmp(&kept(other)).then(by_accuracy)
        });
        let together = (!held_out.is_empty()).then(|| Figures::from(Tally::of(together(&held_out))));
        let measured = principles.iter().filter_map(|voted| voted.held_out.as_ref()).chain(&together);
        let outcome = match () {
            () if rules == 0 => Outcome::NothingProposed,
            () if held_out.is_empty() => Outcome::NothingKept,
            () if measured.into_iter().any(|figures| figures.tally.beats_chance()) => Outcome::Found,
            () => Outcome::NoBetterThanChance,
        };
        Ok(Self {
            outcome,
            training_pairs: parts.training.len(),
            held_out_pairs: parts.held_out.len(),
            left_out: parts.left_out,
            questions: replies.len(),
            rules,
            refused,
            different_rules: all.len(),
            principles,
            together,
            longer: Figures::from(Tally::of(parts.held_out.iter().map(longer))),
            chance: 0.5,
        })
    }

    /// What a finished stage told of itself.
    pub fn told(read: &Reader<'_>) -> Result<Self> {
        let told = read.detail()?[INFERENCE].take();
        serde_json::from_value(told).with_context(|| format!("what the stage {} told", read.name()))
    }

    /// The candidates that are kept.
    pub fn kept(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        let is_kept = |id: &str| self.kept_figures().any(|voted| voted.id == id);
        candidates.iter().filter(|candidate| is_kept(&candidate.principle.id)).cloned().collect()
    }

    /// The kept principles, best first.
    pub fn kept_figures(&self) -> impl Iterator<Item = &Voted> {
        self.principles.iter().filter(|voted| voted.fate == Fate::Kept)
    }

    /// What was found, in a sentence or two.
    pub fn conclusion(&self) -> String {
        let none = "no constitution was written";
        match (self.outcome, &self.together) {
            (Outcome::NothingProposed, _) => format!(
                "the replies to {} questions hold no rule of the form that was asked for ({}); {none}",
                self.questions,
                counted(&self.refused)
            ),
            (Outcome::Found, Some(together)) => format!(
                "{} principles are kept; together they are right on {} of the held-out pairs on which they vote, and explain {} of all",
                self.kept_figures().count(),
                rate(&together.accuracy),
                rate(&together.explained)
            ),
            (Outcome::NothingKept, _) => format!(
                "of {} principles that were voted on none explains the training pairs better than chance (the model clearly prefers one \
                 answer, in both orders, in {} of {} cases); {none}",
                self.principles.len(),
                self.principles.iter().map(|voted| voted.training.accuracy.total).sum::<usize>(),
                self.principles.iter().map(|voted| voted.training.tally.pairs()).sum::<usize>(),
            ),
            (Outcome::NoBetterThanChance | Outcome::Found, _) => format!(
                "no principle predicts held-out pairs better than chance, though {} explained the training pairs; {none}",
                self.kept_figures().count()
            ),
        }
    }

    /// The constitution as a file, with its figures in comments; none where nothing was found.
    pub fn constitution(&self) -> Result<Option<String>> {
        if self.outcome != Outcome::Found {
            return Ok(None);
        }
        let principles =
            self.kept_figures().map(|voted| Principle { id: voted.id.clone(), rule: voted.rule.clone() });
        let (training, held_out) = (self.training_pairs, self.held_out_pairs);
        let description =
            format!("Principles that explain the preferences of {} pairs.", training + held_out);
        let constitution = inferred_constitution(&description, &principles.collect::<Vec<_>>());
        let mut text = format!(
            "# Inferred from {training} preferences, and measured on {held_out} others, which had no part in it.\n\
             # What each principle says of the held-out pairs (95 % intervals; guessing is right on half of its votes):\n#\n"
        );
        let said =
            self.kept_figures().filter_map(|voted| Some((voted.id.as_str(), voted.held_out.as_ref()?)));
        let together = self.together.iter().map(|figures| ("all together, by majority", figures));
        for (name, figures) in said.chain(together).chain([("always the longer answer", &self.longer)]) {
            text += &format!("#   {name}: {}\n", in_words(figures));
        }
        Ok(Some(format!("{text}\n{}", constitution.to_toml()?)))
    }

    /// The stage's part of the report.
    pub fn section(&self, stage: &str) -> report::Inferred {
        let row = |name: String, training: Option<&Figures>, held_out: Option<&Figures>, fate: &str| {
            let of = |figures: Option<&Figures>, shown: fn(&Figures) -> String| {
                figures.map_or("not measured".to_owned(), shown)
            };
            let right = |figures: &Figures| rate(&figures.accuracy);
            let explained = |figures: &Figures| rate(&figures.explained);
            vec![name, fate.to_owned(), of(training, right), of(held_out, right), of(held_out, explained)]
        };
        let each = self.principles.iter().map(|voted| {
            let name = format!("Prefer the answer that {}", voted.rule);
            row(name, Some(&voted.training), voted.held_out.as_ref(), voted.fate.name())
        });
        let mut rows: Vec<Vec<String>> = each.collect();
        if self.together.is_some() {
            rows.push(row(
                "All kept ones together, by majority".to_owned(),
                None,
                self.together.as_ref(),
                "",
            ));
        }
        rows.push(row("Always the longer answer".to_owned(), None, Some(&self.longer), ""));
        let refused = match self.refused.is_empty() {
            true => String::new(),
            false => format!(" Of the replies this could not be used: {}.", counted(&self.refused)),
        };
        report::Inferred {
            stage: stage.to_owned(),
            verdict: format!("{}.", capitalised(&self.conclusion())),
            method: format!(
                "{} questions about {} pairs gave {} rules, {} of them different; {} were voted on. {} other pairs, with other requests, \
                 measure what was kept.{refused}",
                self.questions,
                self.training_pairs,
                self.rules,
                self.different_rules,
                self.principles.len(),
                self.held_out_pairs,
            ),
            rows,
        }
    }
}

/// The votes that were cast, by principle and pair.
struct Cast(HashMap<(String, String), Option<Stance>>);

impl Cast {
    fn of(settings: &Infer, read: &Reader<'_>) -> Result<Self> {
        let items: Vec<TypedItem<PrincipleVote>> = read.own_with_dropped()?;
        let votes = items.into_iter().map(|item| {
            let stance = item.data.label.map(|label| Stance::of(&label, settings.margin));
            ((item.data.principle, item.data.pair), stance)
        });
        Ok(Self(votes.collect()))
    }

    /// Of a principle on these pairs, in their order. A pair that was not asked about has no vote.
    fn of_principle(&self, principle: &str, pairs: &[Pair]) -> Vec<Option<Stance>> {
        let vote = |pair: &Pair| self.0.get(&(principle.to_owned(), pair.id.clone())).copied().flatten();
        pairs.iter().map(vote).collect()
    }
}

/// What "the longer answer is better" says of a pair.
fn longer(pair: &Pair) -> Option<Stance> {
    let [first, second] = [&pair.first, &pair.second].map(|answer| answer.chars().count());
    Some(match first.cmp(&second) {
        std::cmp::Ordering::Greater => Stance::For,
        std::cmp::Ordering::Less => Stance::Against,
        std::cmp::Ordering::Equal => Stance::NotRelevant,
    })
}

/// `61.3 % (49.0 to 72.4)`; a dash where there is nothing to count.
pub fn rate(rate: &Rate) -> String {
    let &Rate { total, rate, low, high, .. } = rate;
    match total {
        0 => "-".to_owned(),
        _ => format!("{:.1} % ({:.1} to {:.1})", 100.0 * rate, 100.0 * low, 100.0 * high),
    }
}

fn in_words(figures: &Figures) -> String {
    let voted = figures.accuracy.total;
    format!(
        "votes on {voted} of {}, right on {}; explains {}",
        figures.tally.pairs(),
        rate(&figures.accuracy),
        rate(&figures.explained)
    )
}

/// `3 too long, 2 empty`.
fn counted(reasons: &BTreeMap<String, usize>) -> String {
    reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>().join(", ")
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
