//! `solon data`: what a file of training data holds, before anything is trained.

mod show;
mod tokens;

use self::tokens::Tokens;
use crate::catalogue;
use crate::chat_template;
use crate::cli::{CheckDataArgs, DataCommand, PurposeFlag};
use crate::out::{out, outln};
use crate::piped;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use solon_data::check::{Check, Opened};
use solon_data::records::{Purpose, UnusedColumn};
use solon_data::{Packing, Place};
use solon_infer::chat::describe;
use std::fmt::Display;
use std::path::Path;

/// Rows that are named one by one.
const NAMED: usize = 5;

/// Runs the subcommand.
pub fn run(command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::Check(args) => check(args),
        DataCommand::Show(args) => show::run(args),
    }
}

/// What was found in one file.
struct Found {
    path: String,
    check: Check,
    /// With a model.
    tokens: Option<Tokens>,
    /// Rows whose question is also in the file to measure on.
    shared: Vec<(Place, Place)>,
}

fn check(args: &CheckDataArgs) -> Result<()> {
    let model = args.model.as_deref().map(|name| -> Result<_> {
        let (text, config) = describe(&catalogue::resolve(name)?).context(name.to_owned())?;
        Ok((chat_template::replaced(text, args.chat_template.as_deref())?, config))
    });
    let model = model.transpose()?;
    let measured = args.against.as_deref().map(|path| open(path, None)).transpose()?;
    let mut found = Vec::new();
    for path in &args.files {
        let file = open(path, args.purpose)?;
        found.push(Found {
            path: path.display().to_string(),
            check: file.check(),
            tokens: model.as_ref().map(|(text, config)| Tokens::of(&file, text, config)),
            shared: measured.as_ref().map(|measured| file.shared_questions(measured)).unwrap_or_default(),
        });
    }
    match args.json {
        true => {
            outln!("{}", serde_json::to_string_pretty(&found.iter().map(Found::json).collect::<Vec<_>>())?)
        }
        false => {
            for one in &found {
                out!("{}", one.in_words());
            }
        }
    }
    let refused: Vec<&str> =
        found.iter().filter(|one| one.is_refused()).map(|one| one.path.as_str()).collect();
    if !refused.is_empty() {
        bail!("{} would train something else than it says", refused.join(", "));
    }
    Ok(())
}

/// Reads a file, which may be a pipe.
fn open(path: &Path, purpose: Option<PurposeFlag>) -> Result<Opened> {
    Ok(Opened::open(&piped::at_rest(piped::named(path))?, purpose.map(Into::into))?)
}

impl Found {
    /// What training would refuse, or would learn wrongly: what it is, and where.
    fn refused(&self) -> Vec<(&'static str, Vec<String>)> {
        let no_rows = if self.check.rows == 0 { vec!["the file".to_owned()] } else { Vec::new() };
        let tokens = self.tokens.as_ref();
        let told = [
            ("no rows", no_rows),
            ("an answer to learn from is empty", places(&self.check.empty_answers)),
            ("the question is also in the file to measure on", two_places(&self.shared)),
            ("the chat template refuses it", tokens.map(|tokens| tokens.refused.clone()).unwrap_or_default()),
            (
                "longer than the model's context",
                tokens.map(|tokens| places(&tokens.too_long)).unwrap_or_default(),
            ),
        ];
        told.into_iter().filter(|(_, rows)| !rows.is_empty()).collect()
    }

    fn is_refused(&self) -> bool {
        !self.refused().is_empty()
    }

    /// What is probably a mistake: what it is, and where.
    fn warnings(&self) -> Vec<(&'static str, Vec<String>)> {
        let tokens = self.tokens.as_ref();
        let told = [
            ("the same as an earlier row", two_places(&self.check.duplicates)),
            ("both answers are the same", places(&self.check.same_answers)),
            (
                "begins with two beginnings of sequence",
                tokens.map(|t| places(&t.two_beginnings)).unwrap_or_default(),
            ),
            ("ends with two ends of turn", tokens.map(|t| places(&t.two_ends)).unwrap_or_default()),
        ];
        told.into_iter().filter(|(_, rows)| !rows.is_empty()).collect()
    }

    fn in_words(&self) -> String {
        let Check { format, packing, purpose, forms, rows, unlabelled, unused, .. } = &self.check;
        let packed = match packing {
            None => "",
            Some(Packing::Gzip) => ", gzip",
            Some(Packing::Zstd) => ", Zstandard",
        };
        let forms: Vec<String> = forms.keys().map(ToString::to_string).collect();
        let mut text = format!(
            "{}: {format}{packed}; {rows} {}{}\n",
            self.path,
            named(*purpose),
            if forms.is_empty() { String::new() } else { format!(": {}", forms.join(", ")) }
        );
        if let Some(tokens) = &self.tokens {
            text += &tokens.in_words();
        }
        if !unlabelled.is_empty() {
            text += &format!("  note     {} pairs have no label and are not trained on\n", unlabelled.len());
        }
        if !unused.is_empty() {
            let names: Vec<String> = unused
                .iter()
                .map(|column| format!("{} ({} rows)", column.name.escape_debug(), column.rows))
                .collect();
            text += &format!("  note     columns that are not used: {}\n", names.join(", "));
        }
        for (kind, told) in [("warning", self.warnings()), ("refused", self.refused())] {
            for (what, rows) in told {
                text += &format!("  {kind}  {what}: {}\n", some_of(&rows));
            }
        }
        text
    }

    fn json(&self) -> Value {
        let Check { format, packing, purpose, forms, rows, unlabelled, .. } = &self.check;
        let listed = |told: Vec<(&'static str, Vec<String>)>| {
            told.into_iter().map(|(what, rows)| json!({"what": what, "rows": rows})).collect::<Vec<_>>()
        };
        let unused = |column: &UnusedColumn| json!({"name": column.name, "rows": column.rows});
        json!({
            "file": self.path,
            "format": format.to_string(),
            "packing": packing.map(|packing| match packing { Packing::Gzip => "gzip", Packing::Zstd => "zstd" }),
            "purpose": named(*purpose),
            "rows": rows,
            "forms": forms.iter().map(|(form, rows)| json!({"form": form.to_string(), "rows": rows})).collect::<Vec<_>>(),
            "unlabelled": unlabelled.len(),
            "unused_columns": self.check.unused.iter().map(unused).collect::<Vec<_>>(),
            "tokens": self.tokens.as_ref().map(Tokens::json),
            "warnings": listed(self.warnings()),
            "refused": listed(self.refused()),
        })
    }
}

fn named(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Demonstrations => "demonstrations",
        Purpose::Preferences => "preferences",
        Purpose::Prompts => "prompts",
    }
}

fn places(rows: &[Place]) -> Vec<String> {
    rows.iter().map(ToString::to_string).collect()
}

fn two_places(rows: &[(Place, Place)]) -> Vec<String> {
    rows.iter().map(|(row, other)| format!("{row} (there {other})")).collect()
}

/// The first of many, and how many more there are.
fn some_of<T: Display>(rows: &[T]) -> String {
    let shown: Vec<String> = rows.iter().take(NAMED).map(ToString::to_string).collect();
    match rows.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
