//! `solon data show`: the tokens of some rows, and which of them are learnt.

use super::Named;
use super::tokens::sequences;
use crate::catalogue;
use crate::chat_template;
use crate::cli::ShowDataArgs;
use crate::out::{out, outln};
use anyhow::{Context, Result};
use serde_json::json;
use solon_data::check::Opened;
use solon_infer::chat::describe;
use solon_text::{ChatTokenizer, Encoded};
use std::io::IsTerminal;

/// Stands between two tokens.
const BORDER: &str = "│";

/// Prints the rows.
pub fn run(args: &ShowDataArgs) -> Result<()> {
    let (text, _) = describe(&catalogue::resolve(&args.model)?).with_context(|| args.model.clone())?;
    let text = chat_template::replaced(text, args.chat_template.as_deref())?;
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let files = super::files(std::slice::from_ref(&args.file))?;
    let several = files.len() > 1;
    let mut left = args.rows;
    for Named { shown: path, path: file } in files {
        if left == 0 {
            break;
        }
        let file = Opened::open(&file, args.purpose.map(Into::into))?;
        for (place, made) in sequences(&file, &text).take(left) {
            left -= 1;
            let row = if several { format!("{path}, {place}") } else { place.to_string() };
            print(&row, made.with_context(|| format!("{path}, {place}"))?, &text, args, coloured)?;
        }
    }
    Ok(())
}

/// Prints the sequences of a row.
fn print(
    row: &str,
    made: Vec<(&str, Encoded)>,
    text: &ChatTokenizer,
    args: &ShowDataArgs,
    coloured: bool,
) -> Result<()> {
    for (name, Encoded { ids, loss_mask }) in made {
        if args.json {
            outln!("{}", json!({"row": row, "answer": name, "token_ids": ids, "learnt": loss_mask}));
            continue;
        }
        let learnt = loss_mask.iter().filter(|learnt| **learnt).count();
        let title = format!("{row} {name}");
        outln!("{}: {} tokens, {learnt} learnt", title.trim_end(), ids.len());
        let mut from = 0;
        for part in loss_mask.chunk_by(|one, next| one == next) {
            out!("{}", shown(text, &ids[from..from + part.len()], part[0], coloured));
            from += part.len();
        }
    }
    Ok(())
}

/// Tokens that are all learnt, or all not.
fn shown(text: &ChatTokenizer, ids: &[u32], learnt: bool, coloured: bool) -> String {
    let tokens: Vec<String> = ids.iter().map(|id| token(text, *id)).collect();
    let (on, off) = match (coloured, learnt) {
        (false, _) => ("", ""),
        (true, true) => ("\x1b[32m", "\x1b[0m"),
        (true, false) => ("\x1b[2m", "\x1b[0m"),
    };
    let name = if learnt { "learnt " } else { "context" };
    format!("  {name}  {on}{}{off}\n", tokens.join(BORDER))
}

/// A token's text, on one line.
fn token(text: &ChatTokenizer, id: u32) -> String {
    let shown = text.token_text(id).or_else(|| text.id_to_token(id)).unwrap_or_else(|| format!("[{id}]"));
    shown
        .chars()
        .flat_map(|one| if one.is_control() { one.escape_default().collect() } else { vec![one] })
        .collect()
}
