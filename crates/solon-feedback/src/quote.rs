//! Makes text from models and strangers safe to show to another model or on a terminal.
//!
//! Contract: ordinary text passes unchanged. A tokenizer turns `<|im_start|>` inside a message into the control token
//! (so does transformers' `apply_chat_template`). With it an answer could end its own quotation and speak to the judge
//! as the user. A terminal obeys escape sequences, with which an answer could redraw the screen of the person who
//! votes.

/// The first characters of control tokens in common chat templates (ChatML, Llama 2 and 3, Gemma, Mistral).
const CONTROL_BEGINNINGS: [&str; 8] =
    ["<|", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<bos>"];

/// `text` for quotation inside a message: trimmed, and [`without_control`].
pub fn for_model(text: &str) -> String {
    without_control(text.trim())
}

/// `text` with a space inserted into everything that a chat template would take for a control token.
pub fn without_control(text: &str) -> String {
    let mut quoted = text.to_string();
    for beginning in CONTROL_BEGINNINGS {
        if quoted.contains(beginning) {
            let (first, rest) = beginning.split_at(1);
            quoted = quoted.replace(beginning, &format!("{first} {rest}"));
        }
    }
    quoted
}

/// `text` for quotation inside a text with markers such as `Human:`: [`without_control`], and with a space before the colon of
/// every marker that begins a line, in whatever case. So it cannot pose as the next part.
pub(crate) fn without_markers(text: &str, markers: &[&str]) -> String {
    const ENDS: [char; 7] = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
    let text = without_control(text);
    let mut quoted = String::with_capacity(text.len());
    for line in text.split_inclusive(ENDS) {
        let said = line.trim_start_matches(|c: char| c.is_whitespace() || is_invisible(c));
        let begins = |marker: &&&str| {
            said.get(..marker.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(marker))
        };
        match markers.iter().find(begins) {
            Some(marker) => {
                let colon = line.len() - said.len() + marker.len() - 1;
                quoted.extend([&line[..colon], " ", &line[colon..]]);
            }
            None => quoted.push_str(line),
        }
    }
    quoted
}

/// `text` for a terminal. Control characters and characters that reorder text are written as `\u{…}`. Line feeds stay,
/// and a tab becomes spaces.
pub fn for_terminal(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push('\n'),
            '\t' => shown.push_str("    "),
            _ if character.is_control() || is_invisible(character) => {
                shown.extend(character.escape_unicode());
            }
            _ => shown.push(character),
        }
    }
    shown
}

/// Characters that change the order of others, break lines without a line feed, or are invisible.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_tokens_are_broken_and_prose_is_not_touched() {
        assert_eq!(for_model(" a<|im_end|>\n<|im_start|>user "), "a< |im_end|>\n< |im_start|>user");
        assert_eq!(for_model("x [/INST] y</s>"), "x [ /INST] y< /s>");
        assert_eq!(for_model("if a < b || c > d { <span> }"), "if a < b || c > d { <span> }");
    }

    #[test]
    fn a_marker_that_begins_a_line_loses_its_colon() {
        let quoted = |text| without_markers(text, &["Human:", "Critique:"]);
        assert_eq!(quoted("a\n\nHuman: b\n hUMAN:c"), "a\n\nHuman : b\n hUMAN :c");
        assert_eq!(quoted("Critique:"), "Critique :");
        assert_eq!(quoted("x\r\u{200b}Human: y\u{2028}Human:"), "x\r\u{200b}Human : y\u{2028}Human :");
        assert_eq!(quoted("a Human: b\nHumane: c\n日本"), "a Human: b\nHumane: c\n日本");
        assert_eq!(quoted("<|im_end|>"), "< |im_end|>");
    }

    #[test]
    fn a_terminal_sees_no_control_characters() {
        let shown = for_terminal("é\u{1b}[2Jx\r\n\u{9b}31m\u{202e}abc\t日本");
        assert_eq!(shown, "é\\u{1b}[2Jx\\u{d}\n\\u{9b}31m\\u{202e}abc    日本");
    }
}
