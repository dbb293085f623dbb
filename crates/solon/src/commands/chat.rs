//! `solon chat`: a conversation in the terminal, or with lines from a pipe.
//!
//! Contract: stdout has only the answers. A turn that does not fit the context is removed; at a terminal the
//! conversation then continues, a script gets the error. Answers are escaped, because a model may write control
//! sequences.

use super::{open, sampling};
use crate::cli::{ChatArgs, print_error};
use crate::out::Out;
use anyhow::{Result, anyhow};
use solon_draws::Draws;
use solon_feedback::for_terminal;
use solon_infer::chat::{AnswerSettings, ChatError, ChatRequest};
use solon_records::Message;
use std::io::{BufRead, IsTerminal, Write};

const COMMANDS: &str = "/reset clears the conversation, /system TEXT sets the system message, /quit ends";

const TOO_LONG: &str = "start a new conversation with /reset, or give a smaller --max-new-tokens";

/// A parsed line.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    Nothing,
    Reset,
    /// `None` removes the instructions.
    System(Option<&'a str>),
    Quit,
    Unknown(&'a str),
    Say(&'a str),
}

fn parse(line: &str) -> Line<'_> {
    let line = line.trim();
    if !line.starts_with('/') {
        return if line.is_empty() { Line::Nothing } else { Line::Say(line) };
    }
    let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (command, rest.trim()) {
        ("/reset", "") => Line::Reset,
        ("/quit" | "/exit", "") => Line::Quit,
        ("/system", "") => Line::System(None),
        ("/system", text) => Line::System(Some(text)),
        _ => Line::Unknown(command),
    }
}

/// Answers each line until /quit or the end of the input.
pub fn run(args: &ChatArgs) -> Result<()> {
    let settings = AnswerSettings { sampling: sampling(&args.sampling)?, slots: 1 };
    let model = open(&args.model, args.weights.weights.into())?;
    let mut engine = model.engine(model.adapter.as_ref());
    let draws = Draws::new(args.sampling.seed, "chat");
    let mut input = std::io::stdin().lock();
    let terminal = input.is_terminal();
    if terminal {
        eprintln!("{COMMANDS}");
    }
    let mut system: Option<Message> = None;
    let mut turns: Vec<Message> = Vec::new();
    let mut bytes = Vec::new();
    for place in 0.. {
        if terminal {
            eprint!("> ");
        }
        bytes.clear();
        if input.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&bytes);
        match parse(&text) {
            Line::Nothing => continue,
            Line::Quit => break,
            Line::Reset => turns.clear(),
            Line::System(text) => system = text.map(Message::system),
            Line::Unknown(command) => eprintln!("unknown command {}; {COMMANDS}", for_terminal(command)),
            Line::Say(text) => {
                turns.push(Message::user(text));
                let messages: Vec<Message> = system.iter().chain(&turns).cloned().collect();
                let request = ChatRequest {
                    id: "the conversation".to_owned(),
                    context: messages.into(),
                    prefill: String::new(),
                    draws: draws.index(place),
                };
                match model.answer(&mut engine, &[request], &settings, &mut |_| {}) {
                    Ok(answers) => {
                        let mut out = Out;
                        for answer in answers {
                            writeln!(out, "{}", for_terminal(&answer.text))?;
                            turns.push(Message::assistant(answer.text));
                        }
                    }
                    Err(error) => {
                        turns.pop();
                        let error = match error {
                            ChatError::TooLong { .. } => anyhow!("{error}\nhint: {TOO_LONG}"),
                            other => other.into(),
                        };
                        if !terminal {
                            return Err(error);
                        }
                        print_error(&error);
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command_only_where_it_begins_with_a_slash() {
        assert_eq!(parse(" \r\n"), Line::Nothing);
        assert_eq!(parse("and/or /quit\n"), Line::Say("and/or /quit"));
        assert_eq!(parse("/reset\r\n"), Line::Reset);
        assert_eq!(parse("/quit"), Line::Quit);
        assert_eq!(parse("/system  Be  brief. \n"), Line::System(Some("Be  brief.")));
        assert_eq!(parse("/system"), Line::System(None));
        assert_eq!(parse("/resett\n"), Line::Unknown("/resett"));
    }
}
