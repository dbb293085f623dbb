//! Compares chat templates of many model families with transformers' `apply_chat_template` and TRL's masks: for each
//! template in `templates/` and each conversation the texts, the prompt's ids and the ids that are learnt, or a refusal
//! that the goldens name. The goldens come from `benchmarks/parity/make_template_goldens.py`; no test needs Python.
//!
//! `SOLON_TEMPLATES=FOLDER` compares another folder with goldens of its own; `SOLON_TEMPLATE_TABLE=FILE` writes the table of
//! `benchmarks/parity/templates.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use solon_records::{Message, TemplateInputs};
use solon_text::{ChatTokenizer, TextError, Turn};

/// How Solon and its peers stand to each other on one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The same ids and the same mask.
    Equal,
    /// The same text, the same prompt; one encoding of the whole merges the prompt's end with the answer's start. TRL
    /// warns of it. Solon's ids are those of sampling.
    EqualText,
    /// The template refuses the conversation, in both with the same words.
    RefusedByBoth,
    /// Solon refuses, by the name of its error; transformers does not.
    Refused(&'static str),
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|value| value.as_u64().expect("a number") as u32).collect()
}

fn name_of(error: &TextError) -> &'static str {
    match error {
        TextError::NotPrefixPreserving { .. } => "NotPrefixPreserving",
        TextError::ContentRewritten { .. } => "ContentRewritten",
        TextError::Lost { .. } => "Lost",
        TextError::TemplateRaised { .. } => "TemplateRaised",
        TextError::TemplateFailed { .. } => "TemplateFailed",
        _ => "another error",
    }
}

/// The small tokenizer of the other goldens, with the template and its special tokens.
fn tokenizer(source: &str, settings: &Value) -> ChatTokenizer {
    let definition = std::fs::read_to_string(tests().join("goldens/folder/tokenizer.json")).expect("a file");
    let mut definition: Value = serde_json::from_str(&definition).expect("JSON");
    definition["added_tokens"] = settings["added_tokens"].clone();
    let configuration = serde_json::json!({
        "bos_token": settings["bos"], "eos_token": settings["eos"], "pad_token": settings["eos"],
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in [
        ("tokenizer.json", definition.to_string()),
        ("tokenizer_config.json", configuration.to_string()),
        ("chat_template.jinja", source.to_owned()),
    ] {
        std::fs::write(folder.path().join(name), content).expect("a file");
    }
    ChatTokenizer::from_folder(folder.path()).expect("the folder")
}

/// Compares one conversation; `Err` says what differs.
fn compare(tokenizer: &ChatTokenizer, messages: &[Message], row: &Value) -> Result<Outcome, String> {
    let (answer, prompt) = messages.split_last().expect("messages");
    let turn = tokenizer.turn_ids(prompt, answer);
    let same = |what: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
        let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
        if ours == theirs { Ok(()) } else { Err(format!("{what}\n  ours   {ours}\n  theirs {theirs}")) }
    };
    if let Some(words) = row.get("raised") {
        return match turn {
            Err(TextError::TemplateRaised { message }) if message == text(words) => {
                Ok(Outcome::RefusedByBoth)
            }
            other => Err(format!("transformers' template raised {words}, ours: {other:?}")),
        };
    }
    if let Some(words) = row.get("failed") {
        return match turn {
            Err(TextError::TemplateFailed { .. } | TextError::NoContent { .. }) => Ok(Outcome::RefusedByBoth),
            other => Err(format!("transformers' template failed with {words}, ours: {other:?}")),
        };
    }

    if row.get("lost").is_some() {
        return match turn {
            Err(error @ TextError::Lost { .. }) => Ok(Outcome::Refused(name_of(&error))),
            other => Err(format!("a part leaves no trace, ours: {other:?}")),
        };
    }

    let whole_text = text(&row["text"]);
    let whole = numbers(&row["ids"]);
    let prompt_text = row["prompt_text"].as_u64().map(|length| &whole_text[..length as usize]);
    let prompt_ids = match row["prompt_ids"].as_u64() {
        Some(length) => whole[..length as usize].to_vec(),
        None => numbers(&row["prompt_ids"]),
    };
    let render = |messages: &[Message], generation: bool| {
        tokenizer.render(messages, generation).map_err(|error| error.to_string())
    };
    same("the whole text", &render(messages, false)?, &whole_text)?;
    same(
        "the prompt's text",
        &render(prompt, true)?,
        &prompt_text.unwrap_or_else(|| text(&row["prompt_text"])),
    )?;
    same("the whole ids", &tokenizer.encode(whole_text).map_err(|error| error.to_string())?, &whole)?;
    same("the prompt's ids", &tokenizer.prompt_ids(prompt).map_err(|error| error.to_string())?, &prompt_ids)?;

    let encoded = tokenizer.encode_conversation(messages, |index| index == prompt.len());
    if let Some(expected) = row.get("refused") {
        return match (turn, encoded) {
            (Err(error), Err(_)) if name_of(&error) == text(expected) => {
                Ok(Outcome::Refused(name_of(&error)))
            }
            (other, _) => Err(format!("a refusal {expected} was expected, ours: {other:?}")),
        };
    }
    let turn = turn.map_err(|error| format!("{error:?}"))?;
    let encoded = encoded.map_err(|error| format!("{error:?}"))?;
    same("encode_conversation's ids", &encoded.ids, &[turn.prompt.clone(), turn.answer.clone()].concat())?;
    let mask: Vec<bool> = (0..encoded.ids.len()).map(|position| position >= turn.prompt.len()).collect();
    same("encode_conversation's mask", &encoded.loss_mask, &mask)?;

    let start = row["completion"][0].as_u64().expect("a position") as usize;
    let learnt = match row["completion"][1].as_u64() {
        Some(end) => whole[start..end as usize].to_vec(),
        None => numbers(&row["learnt"]),
    };
    let theirs = Turn { prompt: whole[..start].to_vec(), answer: learnt };
    let last =
        |padding: Option<u32>| whole.iter().rposition(|id| Some(*id) != padding).map_or(0, |last| last + 1);
    if turn == theirs {
        for padding in [None, tokenizer.pad()] {
            let (read, last) = (tokenizer.closing(padding).close(&turn.answer), last(padding));
            let read = [&turn.prompt[..], &read].concat();
            // Without an end of turn in the template, white space at the end of the answer cannot be told from the template's.
            let rest =
                whole[..last].strip_prefix(&read[..]).filter(|rest| tokenizer.decode(rest).trim().is_empty());
            if rest.is_none() || text(&row["conversation"]) != "white space" {
                same("what a reward model reads", &read, &&whole[..last])?;
            }
        }
        return Ok(Outcome::Equal);
    }
    // In the vocabulary's own letters a text is the tokens' texts, one after the other, special tokens included.
    let written = |turn: &Turn| -> String {
        turn.prompt.iter().chain(&turn.answer).filter_map(|id| tokenizer.id_to_token(*id)).collect()
    };
    same("the text of prompt and answer", &written(&turn), &written(&theirs))?;
    if prompt_text.is_none() {
        return same("the parts", &turn, &theirs).map(|()| Outcome::Equal);
    }
    same("the prompt of the answer", &turn.prompt, &prompt_ids)?;
    if theirs.prompt == prompt_ids {
        return Err(format!("the answer's ids\n  ours   {:?}\n  theirs {:?}", turn.answer, theirs.answer));
    }
    Ok(Outcome::EqualText)
}

/// A table of templates by conversations, and how often each outcome came.
fn table(conversations: &[String], outcomes: &BTreeMap<String, Vec<Outcome>>) -> String {
    let cell = |outcome: &Outcome| match outcome {
        Outcome::Equal => "equal".to_owned(),
        Outcome::EqualText => "equal text".to_owned(),
        Outcome::RefusedByBoth => "refused by both".to_owned(),
        Outcome::Refused(name) => format!("`{name}`"),
    };
    let mut page = format!("| template | {} |\n|---|", conversations.join(" | "));
    page.push_str(&"---|".repeat(conversations.len()));
    let mut counts: BTreeMap<Outcome, usize> = BTreeMap::new();
    for (template, row) in outcomes {
        let cells: Vec<String> = row.iter().map(cell).collect();
        page.push_str(&format!("\n| {template} | {} |", cells.join(" | ")));
        for outcome in row {
            *counts.entry(*outcome).or_default() += 1;
        }
    }
    let counts: Vec<String> =
        counts.iter().map(|(outcome, count)| format!("{count} {}", cell(outcome))).collect();
    let (templates, columns) = (outcomes.len(), conversations.len());
    format!(
        "# Chat templates: transformers, TRL and Solon\n\nWhat the words mean, and how this page is made: \
         [README.md](README.md#chat-templates).\n\n{templates} templates, {columns} conversations: {}.\n\n{page}\n",
        counts.join(", ")
    )
}

#[test]
fn templates_give_transformers_ids_and_trls_masks_or_a_refusal_that_is_named() {
    let other = std::env::var_os("SOLON_TEMPLATES").map(PathBuf::from);
    let folder = other.clone().unwrap_or_else(|| tests().join("templates"));
    let goldens = std::fs::read_to_string(folder.join("goldens.json")).expect("goldens.json");
    let goldens: Value = serde_json::from_str(&goldens).expect("goldens.json is JSON");
    let conversations = goldens["conversations"].as_object().expect("conversations");
    let mut outcomes: BTreeMap<String, Vec<Outcome>> = BTreeMap::new();
    let mut differences = Vec::new();
    for (name, settings) in goldens["templates"].as_object().expect("templates") {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).expect(name);
        let tokenizer = tokenizer(&source, settings);
        for row in
            goldens["rows"].as_array().expect("rows").iter().filter(|row| text(&row["template"]) == name)
        {
            let conversation = text(&row["conversation"]);
            let mut messages: Vec<Message> =
                serde_json::from_value(conversations[conversation].clone()).expect("messages");
            if let Some(inputs) = goldens["inputs"].get(conversation) {
                let inputs: TemplateInputs = serde_json::from_value(inputs.clone()).expect("inputs");
                inputs.put_on(&mut messages);
            }
            match compare(&tokenizer, &messages, row) {
                Ok(outcome) => outcomes.entry(name.clone()).or_default().push(outcome),
                Err(difference) => differences.push(format!("{name}, {conversation}: {difference}")),
            }
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
    let conversations: Vec<String> = conversations.keys().cloned().collect();
    if let Some(path) = std::env::var_os("SOLON_TEMPLATE_TABLE") {
        std::fs::write(path, table(&conversations, &outcomes)).expect("the table's file");
    }
    if other.is_none() {
        assert!(outcomes.len() >= 42 && conversations.len() >= 5, "{} templates", outcomes.len());
        let on_disk = std::fs::read_dir(&folder).expect("the folder").filter(|entry| {
            entry.as_ref().expect("an entry").path().extension().is_some_and(|kind| kind == "jinja")
        });
        assert_eq!(outcomes.len(), on_disk.count(), "goldens for every template");
    }
}
