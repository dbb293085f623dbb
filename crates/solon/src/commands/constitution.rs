//! `solon constitution`: checks, shows and compares constitutions, in words or as JSON. What is counted and compared is in
//! `solon-feedback`'s `constitution`. `infer` has a file of its own.
//!
//! Contract: a constitution that cannot be read is an error in the command, exit code 2. Its texts, which anybody may have
//! written, cannot control the terminal.

use crate::assets;
use crate::cli::{CheckArgs, ConstitutionCommand, DiffArgs, ShowArgs, UsageError};
use crate::out::{out, outln};
use anyhow::Result;
use serde_json::{Value, json};
use solon_data::files::sha256_file;
use solon_feedback::{
    Checked, Constitution, ConstitutionDiff, Entry, FieldChange, Side, TableDiff, for_terminal,
};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Runs one of the commands.
pub fn run(command: &ConstitutionCommand) -> Result<()> {
    match command {
        ConstitutionCommand::Check(args) => check(args),
        ConstitutionCommand::Show(args) => show(args),
        ConstitutionCommand::Diff(args) => diff(args),
        ConstitutionCommand::Infer(args) => super::infer::run(args),
    }
}

/// Opens the file that was given, one that the program carries, or the project's own constitution.
fn open(file: Option<&Path>) -> Result<(PathBuf, Constitution)> {
    let path = assets::find(file.unwrap_or(Path::new(assets::CONSTITUTION)), &[])
        .map_err(|error| UsageError(format!("{error:#}")))?;
    let constitution = Constitution::open(&path).map_err(|error| UsageError(error.to_string()))?;
    Ok((path, constitution))
}

fn check(args: &CheckArgs) -> Result<()> {
    let (path, constitution) = open(args.file.as_deref())?;
    let checked = constitution.check()?;
    let file_sha256 = if path.is_file() { Some(sha256_file(&path)?) } else { None };
    if args.json {
        let mut found = json!(checked);
        found["path"] = json!(path.display().to_string());
        found["file_sha256"] = json!(file_sha256);
        outln!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        out!("{}", checked_in_words(&path, &checked, file_sha256.as_deref())?);
    }
    Ok(())
}

/// The width of the first column.
const NAMES: usize = 26;

fn checked_in_words(path: &Path, checked: &Checked, file_sha256: Option<&str>) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "{}: a valid constitution", for_terminal(&path.display().to_string()))?;
    let mut row = |name: &str, value: String| writeln!(text, "{name:<NAMES$} {value}");
    row("name", format!("{}, version {}", for_terminal(&checked.name), checked.version))?;
    row("SHA-256 of the content", checked.sha256.clone())?;
    if let Some(sha256) = file_sha256 {
        row("SHA-256 of the file", sha256.to_owned())?;
    }
    row("revision principles", checked.revision_principles.to_string())?;
    let asking = match checked.request_questions {
        0 => String::new(),
        count => format!(", {count} of them with a question about the request alone"),
    };
    row("comparison principles", format!("{}{asking}", checked.comparison_principles))?;
    row("worked examples", total(&checked.examples))?;
    row("few-shots", total(&checked.few_shots))?;
    row("prompts", checked.prompts.to_string())?;
    writeln!(text, "\n{:<NAMES$} {:>8} {:>10}", "principles about", "revision", "comparison")?;
    writeln!(text, "{:<NAMES$} {:>8} {:>10}", "every prompt", checked.about_all[0], checked.about_all[1])?;
    for (name, [revision, comparison]) in &checked.about {
        writeln!(text, "{:<NAMES$} {revision:>8} {comparison:>10}", for_terminal(name))?;
    }
    if checked.weights.is_empty() {
        writeln!(text, "\nAll principles have the same weight")?;
    } else {
        writeln!(text, "\n{:<NAMES$} {:>8} {:>10}", "principle", "weight", "of draws")?;
        for principle in &checked.weights {
            let share = format!("{:.1} %", 100.0 * principle.share);
            writeln!(text, "{:<NAMES$} {:>8} {share:>10}", for_terminal(&principle.id), principle.weight)?;
        }
    }
    if !checked.warnings.is_empty() {
        writeln!(text)?;
    }
    for warning in &checked.warnings {
        writeln!(text, "warning: {}", for_terminal(warning))?;
    }
    Ok(text)
}

/// `9: harmful 4, harmless 5`.
fn total<Name: AsRef<str>>(counts: &BTreeMap<Name, usize>) -> String {
    let total: usize = counts.values().sum();
    let parts: Vec<String> =
        counts.iter().map(|(name, count)| format!("{} {count}", for_terminal(name.as_ref()))).collect();
    match parts.is_empty() {
        true => total.to_string(),
        false => format!("{total}: {}", parts.join(", ")),
    }
}

fn show(args: &ShowArgs) -> Result<()> {
    let (path, constitution) = open(args.file.as_deref()).map_err(|error| match (&args.file, &args.id) {
        // An id alone is taken for a file.
        (Some(file), None) if !file.exists() => {
            let hint = format!(
                "hint: an entry is shown by file and id: `solon constitution show {} {}`",
                assets::CONSTITUTION,
                file.display()
            );
            UsageError(format!("{error}\n{hint}")).into()
        }
        _ => error,
    })?;
    if args.prompts {
        for prompt in &constitution.prompt {
            outln!("{}", json!({"id": prompt.id, "prompt": prompt.text, "category": prompt.principle}));
        }
        return Ok(());
    }
    let entries = constitution.entries()?;
    let Some(id) = &args.id else {
        if args.json {
            outln!("{}", serde_json::to_string_pretty(&constitution)?);
        } else {
            out!("{}", whole_in_words(&constitution, &entries)?);
        }
        return Ok(());
    };
    let entry = entries.iter().find(|entry| entry.id() == id).ok_or_else(|| {
        let path = path.display();
        UsageError(format!(
            "{path} has no entry with the id {id:?}\nhint: `solon constitution show {path}` shows the ids"
        ))
    })?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(entry)?);
    } else {
        out!("{}", entry_in_words(entry)?);
        let naming: Vec<&str> = (entries.iter())
            .filter(|other| other.fields.get("principle").and_then(Value::as_str) == Some(id))
            .map(Entry::id)
            .collect();
        if !naming.is_empty() {
            outln!("  named by: {}", naming.join(", "));
        }
    }
    Ok(())
}

/// Every principle in full, and the ids of the rest.
fn whole_in_words(constitution: &Constitution, entries: &[Entry]) -> Result<String> {
    let mut text = String::new();
    let Constitution { name, version, description, .. } = constitution;
    writeln!(text, "{}, version {version}", for_terminal(name))?;
    writeln!(text, "{}", for_terminal(description.trim()))?;
    writeln!(text, "SHA-256 of the content: {}", constitution.sha256()?)?;
    for entry in entries.iter().filter(|entry| matches!(entry.table, "revision" | "comparison")) {
        write!(text, "\n{}", entry_in_words(entry)?)?;
    }
    for (table, name) in [("example", "worked examples"), ("few_shot", "few-shots"), ("prompt", "prompts")] {
        let ids: Vec<&str> = entries.iter().filter(|e| e.table == table).map(Entry::id).collect();
        if !ids.is_empty() {
            writeln!(text, "\n{name} ({}): {}", ids.len(), ids.join(", "))?;
        }
    }
    Ok(text)
}

fn entry_in_words(entry: &Entry) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "[[{}]] {}", entry.table, entry.id())?;
    for (field, value) in entry.fields.iter().filter(|(field, _)| *field != "id") {
        writeln!(text, "  {field}: {}", value_in_words(value))?;
    }
    Ok(text)
}

/// Characters of a list that is shown in one line.
const LINE: usize = 80;

/// A text as it is, with its later lines indented; a short list in one line, a longer one with an item in a line.
fn value_in_words(value: &Value) -> String {
    match value {
        Value::String(text) => for_terminal(text).replace('\n', "\n    "),
        Value::Array(items) => {
            let items: Vec<String> =
                items.iter().map(|item| value_in_words(item).trim_start().to_owned()).collect();
            let line = items.join(", ");
            match items.len() == 1 || line.chars().count() <= LINE && !line.contains('\n') {
                true => line,
                false => items.iter().map(|item| format!("\n    - {item}")).collect(),
            }
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}: {}", value_in_words(value)));
            fields.collect::<Vec<_>>().join("; ")
        }
        Value::Null => "left out".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn diff(args: &DiffArgs) -> Result<()> {
    let ((first_path, first), (second_path, second)) =
        (open(Some(&args.first))?, open(args.second.as_deref())?);
    let found = ConstitutionDiff::of(&first, &second)?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        out!("{}", diff_in_words(&found, [&first_path, &second_path])?);
    }
    Ok(())
}

fn diff_in_words(found: &ConstitutionDiff, paths: [&Path; 2]) -> Result<String> {
    let mut text = String::new();
    for (letter, path, side) in [("A", paths[0], &found.first), ("B", paths[1], &found.second)] {
        let Side { name, version, sha256, .. } = side;
        let (path, name) = (for_terminal(&path.display().to_string()), for_terminal(name));
        writeln!(text, "{letter}  {path}: {name}, version {version}, SHA-256 of the content {sha256}")?;
    }
    if found.first.description != found.second.description {
        let descriptions = [&found.first, &found.second].map(|side| Value::from(side.description.trim()));
        writeln!(text, "\ndescription")?;
        changed_value(&mut text, &descriptions[0], &descriptions[1])?;
    }
    if found.same_content {
        writeln!(text, "\nThe same principles, examples, few-shots and prompts")?;
    } else if found.first.version == found.second.version && found.first.name == found.second.name {
        writeln!(text, "\nBoth have the same name and version, and other content")?;
    }
    for table in &found.tables {
        table_in_words(&mut text, table)?;
    }
    Ok(text)
}

fn table_in_words(text: &mut String, table: &TableDiff) -> Result<()> {
    let TableDiff { table, added, removed, changed, reordered } = table;
    writeln!(
        text,
        "\n[[{table}]]: {} added, {} removed, {} changed{}",
        added.len(),
        removed.len(),
        changed.len(),
        if *reordered { ", in another order, on which draws depend" } else { "" }
    )?;
    for (mark, entries) in [("-", removed), ("+", added)] {
        for entry in entries {
            writeln!(text, "{mark} {}", entry_in_words(entry)?.trim_end())?;
        }
    }
    for entry in changed {
        writeln!(text, "~ {}", entry.id)?;
        for FieldChange { field, before, after } in &entry.fields {
            writeln!(text, "  {field}")?;
            changed_value(text, before, after)?;
        }
    }
    Ok(())
}

fn changed_value(text: &mut String, before: &Value, after: &Value) -> Result<()> {
    for (letter, value) in [("A", before), ("B", after)] {
        writeln!(text, "    {letter}: {}", value_in_words(value).trim_start().replace('\n', "\n    "))?;
    }
    Ok(())
}
