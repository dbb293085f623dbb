//! The constitution of Hugging Face's recipe "Constitutional AI with Open LLMs" (huggingface/llm-swarm,
//! `examples/constitutional-ai`): `{"constitutions": [{"critic": …, "revision": …}, …], "system_chat": [[messages], …]}`.
//!
//! Contract: each entry of `constitutions` becomes a revision principle. Each conversation of `system_chat` becomes a
//! few-shot of critique and revision; it may be left out or be empty. Nothing else may be in the file.

use std::path::Path;

use super::fields::Fields;
use super::imports::named_after;
use super::own::messages;
use super::value::Value;
use super::{Constitution, FewShot, RevisionPrinciple, Shot};
use crate::FeedbackError;

const DESCRIPTION: &str = "Principles in the format of Hugging Face's recipe for Constitutional AI.";

/// Reads the top level.
pub(super) fn read(table: Vec<(String, Value)>, path: &Path) -> Result<Constitution, FeedbackError> {
    let mut constitution = named_after(path, DESCRIPTION);
    let mut top = Fields::new(path, "the top level".into(), table, &["constitutions", "system_chat"])?;
    let entries = top.tables("constitutions", "entry", &["critic", "revision"])?;
    if entries.is_empty() {
        return Err(top.wrong("constitutions", "the list is empty; write a principle"));
    }
    for (number, mut entry) in entries.into_iter().enumerate() {
        constitution.revision.push(RevisionPrinciple {
            id: format!("principle{number}"),
            critique: entry.text("critic")?,
            revision: entry.text("revision")?,
            applies: Vec::new(),
            weight: 1.0,
        });
    }
    if top.has("system_chat") {
        for (number, chat) in top.list("system_chat")?.into_iter().enumerate() {
            // A conversation is a bare list, so it is read as the only field of a table.
            let entry = format!("conversation {} of `system_chat`", number + 1);
            let mut chat = Fields::new(path, entry, vec![("messages".into(), chat)], &["messages"])?;
            let messages = messages(&mut chat, "messages")?;
            let (id, shot) = (format!("chat-shot{number}"), Shot::CritiqueChat { messages });
            constitution.few_shot.push(FewShot { id, shot });
        }
    }
    Ok(constitution)
}

#[cfg(test)]
mod tests {
    use super::super::imports::parse;
    use super::*;
    use solon_records::Message;

    #[test]
    fn principles_and_chats_are_read() {
        let text = r#"{"constitutions": [{"critic": "Say what is unkind.", "revision": "Make it kind."},
              {"critic": "c", "revision": "r"}],
            "system_chat": [[{"role": "user", "content": " q\n"}, {"role": "assistant", "content": "a"},
              {"role": "user", "content": "Say what is unkind."}, {"role": "assistant", "content": "c "}]]}"#;
        let read = parse(text, Path::new("a/constitution.json")).unwrap();
        let principles: Vec<_> =
            read.revision.iter().map(|p| [p.id.as_str(), &p.critique, &p.revision]).collect();
        assert_eq!(
            principles,
            [["principle0", "Say what is unkind.", "Make it kind."], ["principle1", "c", "r"]]
        );
        let messages = vec![
            Message::user(" q\n"),
            Message::assistant("a"),
            Message::user("Say what is unkind."),
            Message::assistant("c "),
        ];
        assert_eq!(
            read.few_shot,
            [FewShot { id: "chat-shot0".into(), shot: Shot::CritiqueChat { messages } }]
        );
        let without = r#"{"constitutions": [{"critic": "c", "revision": "r"}], "system_chat": []}"#;
        assert!(parse(without, Path::new("a.json")).unwrap().few_shot.is_empty());
    }

    #[test]
    fn mistakes_name_the_entry() {
        let with = |chat: &str| {
            format!(r#"{{"constitutions": [{{"critic": "c", "revision": "r"}}], "system_chat": {chat}}}"#)
        };
        for (text, said) in [
            (r#"{"constitutions": []}"#.to_owned(), "`constitutions`: the list is empty"),
            (r#"{"constitutions": [{"critic": "c"}]}"#.into(), "entry 1, field `revision`"),
            (r#"{"constitutions": ["c"]}"#.into(), "entry 1 is of type string"),
            (r#"{"constitutions": [{"critic": " ", "revision": "r"}]}"#.into(), "\"principle0\""),
            (
                r#"{"constitutions": [{"critic": "c", "revision": "r"}], "chat": []}"#.into(),
                "`chat`: unknown key",
            ),
            (with("[[]]"), "`messages`: a conversation"),
            (with(r#"[{"role": "user", "content": "q"}]"#), "conversation 1"),
            (with(r#"[[{"role": "user", "content": "q"}]]"#), "end with the assistant"),
            (with(r#"[[{"role": "human", "content": "q"}]]"#), "\"human\" is no role"),
            (with(r#"[[{"role": "user", "content": 3}]]"#), "message 1, field `content`"),
        ] {
            let error = parse(&text, Path::new("c.json")).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("c.json"), "{text}: {error}");
        }
    }
}
