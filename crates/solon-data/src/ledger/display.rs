//! Prints a trail as an indented tree.
//!
//! Texts come from models and strangers. Their control characters could steer the terminal, so they are replaced.

use std::fmt::{self, Display, Formatter};

use serde_json::Value;

use super::{Branch, BranchNote, Explanation, Item, StepUse};

/// Characters of a text shown within a tree; the requested item is shown in full.
const PREVIEW: usize = 160;

/// Branches or steps shown under one item; JSON has all of them.
const SHOWN: usize = 12;

impl Display for Explanation {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let item = &self.item;
        writeln!(out, "{} {}  (stage {})", item.kind, plain(&item.id), plain(&item.stage))?;
        for line in item.text.lines() {
            writeln!(out, "  | {}", plain(line))?;
        }
        details(out, item, self.principle.as_ref(), &self.used_by, "  ", usize::MAX)?;
        writeln!(out, "  sha256: {}", plain(&item.sha256))?;
        section(out, "made from", &self.ancestors)?;
        section(out, "used in", &self.descendants)
    }
}

fn section(out: &mut Formatter<'_>, title: &str, branches: &[Branch]) -> fmt::Result {
    if branches.is_empty() {
        return Ok(());
    }
    writeln!(out, "{title}:")?;
    tree(out, branches, "  ")
}

fn tree(out: &mut Formatter<'_>, branches: &[Branch], indent: &str) -> fmt::Result {
    for branch in branches.iter().take(SHOWN) {
        write!(out, "{indent}{}: ", plain(&branch.role))?;
        let inner = format!("{indent}  ");
        match (&branch.item, branch.note) {
            (Some(item), _) => {
                writeln!(out, "{} {}  {}", item.kind, plain(&item.id), preview(&item.text))?;
                details(out, item, branch.principle.as_ref(), &branch.used_by, &inner, PREVIEW)?;
            }
            (None, Some(BranchNote::Missing)) => {
                writeln!(out, "{}  (its stage was restarted and has not made it again)", plain(&branch.id))?;
            }
            (None, _) => writeln!(out, "{}  (shown above)", plain(&branch.id))?,
        }
        if branch.note == Some(BranchNote::TooDeep) {
            writeln!(out, "{inner}… (continues: solon explain {})", plain(&branch.id))?;
        }
        tree(out, &branch.branches, &inner)?;
    }
    more(out, branches.len(), indent)
}

fn details(
    out: &mut Formatter<'_>,
    item: &Item,
    principle: Option<&Item>,
    used_by: &[StepUse],
    indent: &str,
    limit: usize,
) -> fmt::Result {
    if let Some(reason) = &item.dropped_reason {
        writeln!(out, "{indent}dropped: {}", plain(reason))?;
    }
    match (principle, &item.principle_id) {
        (Some(principle), _) => {
            writeln!(out, "{indent}principle: {}  {}", plain(&principle.id), preview(&principle.text))?;
        }
        (None, Some(id)) => writeln!(out, "{indent}principle: {}", plain(id))?,
        (None, None) => {}
    }
    if item.data != Value::Null {
        writeln!(out, "{indent}data: {}", shortened(&item.data.to_string(), limit))?;
    }
    for used in used_by.iter().take(SHOWN) {
        write!(out, "{indent}trained on in {} step {}", plain(&used.stage), used.step)?;
        if let Some(loss) = used.data.get("loss") {
            write!(out, ", loss {}", plain(&loss.to_string()))?;
        }
        if let Some(checkpoint) = &used.checkpoint {
            write!(out, ", checkpoint {}", plain(&checkpoint.path))?;
        }
        writeln!(out)?;
    }
    more(out, used_by.len(), indent)
}

fn more(out: &mut Formatter<'_>, total: usize, indent: &str) -> fmt::Result {
    match total.saturating_sub(SHOWN) {
        0 => Ok(()),
        rest => writeln!(out, "{indent}… and {rest} more"),
    }
}

fn preview(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\"{}\"", shortened(text, PREVIEW)) }
}

fn shortened(text: &str, limit: usize) -> String {
    let mut short: String = plain(&text.chars().take(limit).collect::<String>());
    if text.chars().nth(limit).is_some() {
        short.push('…');
    }
    short
}

/// One line: breaks become `⏎`, other control and direction-changing characters `�`.
fn plain(text: &str) -> String {
    let show = |letter: char| match letter {
        '\n' => '⏎',
        '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        control if control.is_control() => '\u{fffd}',
        letter => letter,
    };
    text.chars().map(show).collect()
}
