//! `solon label`.

use super::places::file;
use super::{JudgeFlags, ModelArgs, PersonArgs, WeightsArgs};
use clap::{Args, ValueEnum};
use solon_feedback::Ask;
use std::path::PathBuf;

/// How a labeller is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AskFlag {
    /// Both answers side by side, in both orders
    #[default]
    #[value(alias = "compare")]
    Choice,
    /// The same, after it has reasoned; labels are clamped to 0.4 to 0.6
    ChoiceCot,
    /// Each answer by itself: is it the one?
    Rate,
    /// Each answer by itself, from 1 to 10
    Score,
    /// How much likelier an answer is where the principle asks for it than where it asks for the opposite
    Contrast,
    /// The request, and whether each answer declines it
    Apart,
    /// The rewards of both answers by a reward model, which --model or --adapter names
    Reward,
}

impl AskFlag {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        let ask = match self {
            AskFlag::Choice => Ask::Choice,
            AskFlag::ChoiceCot => Ask::ChoiceCot,
            AskFlag::Rate => Ask::Rate,
            AskFlag::Score => Ask::Score,
            AskFlag::Contrast => Ask::Contrast,
            AskFlag::Apart => Ask::Apart,
            AskFlag::Reward => Ask::Reward,
        };
        ask.name()
    }
}

/// `solon label`.
#[derive(Args)]
pub struct LabelArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    #[command(flatten)]
    pub person: PersonArgs,
    /// How the model is asked which answer is better. Use the way in which its adapter was trained
    #[arg(long, value_enum, default_value_t, conflicts_with_all = ["human", "import"])]
    pub ask: AskFlag,
    /// Set a key of the stage `label`, such as votes=9 or principles=3; may be repeated. recipes/README.md lists the keys
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with_all = ["human", "import"])]
    pub set: Vec<String>,
    /// Preference pairs, named as training data is. Which of the two is called chosen does not matter. With --import: the pairs that
    /// the votes must be on [default: those in the imported file]
    #[arg(long, required_unless_present = "import", num_args = 1.., value_name = "DATA")]
    pub input: Vec<PathBuf>,
    /// File for the labelled pairs, JSONL. The run is kept beside it, in OUT.run: the same command goes on where it was
    #[arg(long, value_parser = file)]
    pub out: PathBuf,
    /// The constitution [default: the project's own]
    #[arg(long, conflicts_with_all = ["human", "import"])]
    pub constitution: Option<PathBuf>,
    /// Seed of the order in which answers are shown, of what is repeated, and of the principles drawn
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    // Last, because the flags after a heading stand under it.
    #[command(flatten)]
    pub judge: JudgeFlags,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_asking_is_a_value_of_the_flag() {
        let flags: Vec<&str> = AskFlag::value_variants().iter().map(|flag| flag.name()).collect();
        assert_eq!(flags, Ask::ALL.map(Ask::name));
    }
}
