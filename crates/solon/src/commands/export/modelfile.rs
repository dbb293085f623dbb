//! The Modelfile by which Ollama takes a GGUF file in.
//!
//! Contract: Ollama renders with Go's templates and not with the Jinja template in the GGUF file: it looks for one of its
//! own that resembles it, and where none does, it sends the bare prompt. So the template is written out here, where it
//! can be; its stop tokens are those at which Solon's own sampling stops.
//!
//! Source: ollama, `docs/modelfile.md` and `template/template.go`.

use anyhow::{Context, Result};
use solon_text::{ChatTokenizer, TurnParts};
use std::fmt::Write;
use std::path::Path;

/// By which a file that was written here is known.
pub(super) const FIRST_LINE: &str = "# Written by `solon export`.";

/// The file's text. It lies beside the GGUF file.
pub(super) fn render(gguf: &Path, text: &ChatTokenizer) -> Result<String> {
    let name =
        gguf.file_name().and_then(|name| name.to_str()).context("--out has no name that can be written")?;
    let mut out = format!("{FIRST_LINE}\nFROM ./{name}\n");
    let parts = text.turn_parts().unwrap_or_default();
    match parts.as_ref().and_then(template) {
        Some(template) => writeln!(out, "TEMPLATE \"\"\"{template}\"\"\"")?,
        None if text.template().is_some() => eprintln!(
            "note: the chat template does more than to wrap each turn, so the Modelfile has no TEMPLATE and Ollama chooses one\n\
             hint: `ollama show --template NAME` shows it; add a TEMPLATE where it differs from the model's"
        ),
        None => {}
    }
    for stop in text.stop_ids().iter().filter_map(|id| text.id_to_token(*id)) {
        if !stop.contains(['"', '\n']) {
            writeln!(out, "PARAMETER stop \"{stop}\"")?;
        }
    }
    Ok(out)
}

/// The parts of the chat template in Go's language; `None` where they hold its own signs.
fn template(parts: &TurnParts) -> Option<String> {
    let TurnParts { start, without_system, system, user, assistant, prompt } = parts;
    let texts = [start, without_system, prompt]
        .into_iter()
        .chain(user)
        .chain(assistant)
        .chain(system.iter().flatten());
    if texts.into_iter().any(|text| text.contains("{{") || text.contains("\"\"\"")) {
        return None;
    }
    let turn = |[before, after]: &[String; 2]| format!("{before}{{{{ .Content }}}}{after}");
    let mut out = start.clone();
    if !without_system.is_empty() {
        write!(out, "{{{{ if not .System }}}}{without_system}{{{{ end }}}}").ok()?;
    }
    out.push_str("{{ range .Messages }}");
    let branches = [("system", system.as_ref()), ("user", Some(user)), ("assistant", Some(assistant))];
    let mut otherwise = "";
    for (role, around) in branches.into_iter().filter_map(|(role, around)| Some((role, around?))) {
        write!(out, "{{{{ {otherwise}if eq .Role \"{role}\" }}}}{}", turn(around)).ok()?;
        otherwise = "else ";
    }
    out.push_str("{{ end }}{{ end }}");
    out.push_str(prompt);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_become_a_template() {
        let around = |role: &str| [format!("<{role}>"), "</>\n".to_owned()];
        let parts = TurnParts {
            start: "<s>".to_owned(),
            without_system: "<system>Default.</>\n".to_owned(),
            system: Some(around("system")),
            user: around("user"),
            assistant: around("assistant"),
            prompt: "<assistant>".to_owned(),
        };
        let expected = "<s>{{ if not .System }}<system>Default.</>\n{{ end }}{{ range .Messages }}\
            {{ if eq .Role \"system\" }}<system>{{ .Content }}</>\n\
            {{ else if eq .Role \"user\" }}<user>{{ .Content }}</>\n\
            {{ else if eq .Role \"assistant\" }}<assistant>{{ .Content }}</>\n{{ end }}{{ end }}<assistant>";
        assert_eq!(template(&parts).as_deref(), Some(expected));
        let refusing =
            TurnParts { start: String::new(), without_system: String::new(), system: None, ..parts.clone() };
        let found = template(&refusing).unwrap();
        assert!(found.starts_with("{{ range .Messages }}{{ if eq .Role \"user\" }}"), "{found}");
        assert_eq!(template(&TurnParts { prompt: "{{ x }}".to_owned(), ..parts }), None);
    }
}
