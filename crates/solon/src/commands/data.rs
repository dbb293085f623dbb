//! `solon data`: what training data holds, before anything is trained.

mod show;
mod tokens;

use self::tokens::Tokens;
use crate::catalogue;
use crate::chat_template;
use crate::cli::{CheckDataArgs, DataCommand};
use crate::data_files::{find_each, is_pattern};
use crate::out::{out, outln};
use crate::piped;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use solon_data::check::{Check, Earlier, Opened};
use solon_data::records::{Purpose, UnusedColumn};
use solon_data::{Packing, Place};
use solon_infer::chat::describe;
use std::fmt::Display;
use std::path::PathBuf;

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
    /// Rows that an earlier file has too, each with that one.
    repeated: Vec<String>,
    /// Rows whose question is also in the data to measure on, each with that one.
    shared: Vec<String>,
}

fn check(args: &CheckDataArgs) -> Result<()> {
    let model = args.model.as_deref().map(|name| -> Result<_> {
        let (text, config) = describe(&catalogue::resolve(name)?).context(name.to_owned())?;
        Ok((chat_template::replaced(text, args.chat_template.as_deref())?, config))
    });
    let model = model.transpose()?;
    let mut measured = Vec::new();
    for Named { shown, path } in files(&args.against)? {
        measured.push((shown, Opened::open(&path, None)?));
    }
    let mut earlier = Earlier::default();
    let mut found: Vec<Found> = Vec::new();
    for Named { shown, path } in files(&args.files)? {
        let file = Opened::open(&path, args.purpose.map(Into::into))?;
        let repeated = earlier.repeated(&file).into_iter();
        let repeated =
            repeated.map(|(row, other, there)| format!("{row} ({}, {there})", found[other].path)).collect();
        found.push(Found {
            path: shown,
            check: file.check(),
            tokens: model.as_ref().map(|(text, config)| Tokens::of(&file, text, config)),
            repeated,
            shared: measured.iter().flat_map(|measured| shared(&file, measured)).collect(),
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

/// The rows of a file whose question is in the data to measure on.
fn shared(file: &Opened, (name, measured): &(String, Opened)) -> Vec<String> {
    let shared = file.shared_questions(measured).into_iter();
    shared.map(|(row, there)| format!("{row} ({name}, {there})")).collect()
}

/// A file of data, and what it is called.
struct Named {
    shown: String,
    path: PathBuf,
}

/// The files of data that is named so.
fn files(names: &[PathBuf]) -> Result<Vec<Named>> {
    let mut all = Vec::new();
    let paths: Vec<PathBuf> = names.iter().map(|name| piped::named(name)).collect();
    for (name, found) in names.iter().zip(find_each(&paths, &[])?) {
        let is_itself = found.len() == 1 && !name.is_dir() && !name.to_str().is_some_and(is_pattern);
        all.extend(found.into_iter().map(|path| {
            let shown = if is_itself { name } else { &path };
            Named { shown: shown.display().to_string(), path }
        }));
    }
    Ok(all)
}

impl Found {
    /// What training would refuse, or would learn wrongly: what it is, and where.
    fn refused(&self) -> Vec<(&'static str, Vec<String>)> {
        let no_rows = if self.check.rows == 0 { vec!["the file".to_owned()] } else { Vec::new() };
        let tokens = self.tokens.as_ref();
        let told = [
            ("no rows", no_rows),
            (
                "unpaired preferences (KTO) are not trained on; to imitate the good answers, keep the rows labelled true without the label",
                self.check
                    .labels
                    .map(|[good, bad]| vec![format!("{good} rows are true"), format!("{bad} are false")])
                    .unwrap_or_default(),
            ),
            ("an answer to learn from is empty", places(&self.check.empty_answers)),
            ("the question is also in the data to measure on", self.shared.clone()),
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
            ("the same as a row of an earlier file", self.repeated.clone()),
            ("both answers are the same", places(&self.check.same_answers)),
            (
                "begins with two beginnings of sequence",
                tokens.map(|t| places(&t.two_beginnings)).unwrap_or_default(),
            ),
            ("ends with two ends of turn", tokens.map(|t| places(&t.two_ends)).unwrap_or_default()),
            (
                "too long for a reward model, which also reads the tokens that the template writes after the answer",
                tokens.map(|t| places(&t.too_long_for_reward)).unwrap_or_default(),
            ),
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
        Purpose::Unpaired => "unpaired preferences",
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
