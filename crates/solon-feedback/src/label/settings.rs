//! How pairs are labelled.

use std::num::NonZeroUsize;

use super::Ask;
use crate::error::FeedbackError;
use crate::paper::Form;
use solon_draws::Draws;
use solon_records::{Pair, SamplingSettings};

/// How pairs are labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelSettings {
    /// Key of the draw of principles and of reasoning.
    pub draws: Draws,
    /// How the labeller is asked.
    pub ask: Ask,
    /// In which form.
    pub form: Form,
    /// Whether the constitution's few-shots of the way of asking are put in front; in a chat those of comparisons, with [`Ask::Choice`].
    pub few_shots: bool,
    /// Bounds of the probability, such as (0.4, 0.6) for labels after reasoning in the paper.
    pub clamp: Option<(f64, f64)>,
    /// How many principles a pair is judged by.
    pub principles: NonZeroUsize,
    /// Only principles that are about this kind or category are drawn.
    pub about: Option<String>,
    /// Whether two answers shown together are shown in both orders, and the two labels averaged. Otherwise the order is drawn: in
    /// many files the better answer stands first.
    pub both_orders: bool,
    /// The log-odds of the label are divided by it; above 0.
    pub temperature: f64,
    /// How reasoning is sampled, with [`Ask::ChoiceCot`].
    pub reasoning: SamplingSettings,
}

impl LabelSettings {
    /// What a way of asking takes where nothing else is said.
    pub fn of(ask: Ask, draws: Draws) -> Self {
        Self {
            draws,
            ask,
            form: Form::Chat,
            few_shots: false,
            clamp: ask.clamp(),
            principles: ask.principles(),
            about: None,
            both_orders: true,
            temperature: 1.0,
            reasoning: SamplingSettings::greedy(256),
        }
    }

    /// The same in the paper's form, as it is asked there: with few-shots, and in one order.
    #[must_use]
    pub fn as_in_the_paper(self) -> Self {
        Self { form: Form::Paper, few_shots: true, both_orders: false, ..self }
    }

    pub(super) fn orders(&self, pair: &Pair) -> &'static [&'static str] {
        const ORDERS: [&str; 2] = ["ab", "ba"];
        match self.both_orders {
            true => &ORDERS,
            false => {
                let drawn = self.draws.item("order").item(&pair.id).below(0, 2);
                &ORDERS[drawn..=drawn]
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), FeedbackError> {
        if let Some((low, high)) = self.clamp
            && !((0.0..=0.5).contains(&low) && (0.5..=1.0).contains(&high))
        {
            return Err(FeedbackError::Setting {
                setting: "clamp",
                value: format!("({low}, {high})"),
                rule: "give a lower bound in 0..=0.5 and an upper bound in 0.5..=1",
            });
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            let (setting, value) = ("temperature", self.temperature.to_string());
            return Err(FeedbackError::Setting { setting, value, rule: "give a number above 0" });
        }
        if !self.ask.has(self.form) {
            let value = format!("{:?}", self.ask.name());
            let rule = "the paper's form has `choice` and `choice-cot`";
            return Err(FeedbackError::Setting { setting: "ask", value, rule });
        }
        Ok(())
    }
}
