//! Chat templates: untrusted Jinja programs that turn messages into one text.
//!
//! Contract: the same text as transformers' `apply_chat_template(tokenize=False)` for messages with plain text content.
//! Source: transformers 5, `utils/chat_template_utils.py::_cached_compile_jinja_template`, whose environment is repeated
//! here: `trim_blocks`, `lstrip_blocks`, loop controls, `raise_exception`, `strftime_now`, a `tojson` that is
//! `json.dumps(ensure_ascii=False)`, and the `{% generation %}` tag.
//!
//! There are two deliberate differences: the date is fixed (see [`TemplateDate`]), and rendering has a limit on steps,
//! bytes and nested calls.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use crate::{TemplateDate, TextError, python};
use solon_records::Message;

/// ChatML, for a model whose files have no template but whose vocabulary has `<|im_start|>` and `<|im_end|>`.
pub const CHATML_TEMPLATE: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// minijinja charges about one unit for a step and one for 64 bytes. The limit allows at most a few seconds and 256
/// MiB.
const FUEL: u64 = 4_000_000;
/// Nested macros, includes and blocks. Real templates stay below ten.
const RECURSION_LIMIT: usize = 100;
const NAME: &str = "chat_template";

/// The special tokens a template can name, as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct TemplateTokens {
    pub bos_token: Option<String>,
    pub eos_token: Option<String>,
    pub unk_token: Option<String>,
    pub pad_token: Option<String>,
}

impl TemplateTokens {
    /// The tokens that exist, with their names in templates and in `tokenizer_config.json`.
    pub fn defined(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let named = [
            ("bos_token", &self.bos_token),
            ("eos_token", &self.eos_token),
            ("unk_token", &self.unk_token),
            ("pad_token", &self.pad_token),
        ];
        named.into_iter().filter_map(|(name, token)| Some((name, token.as_deref()?)))
    }
}

/// A compiled chat template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles `source`; `date` is what `strftime_now` formats.
    pub fn new(source: &str, date: TemplateDate) -> Result<Self, TextError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            // Jinja's default, which transformers does not change: the newline that ends the file is not part of the
            // template.
            .keep_trailing_newline(false)
            .build()
            .map_err(|error| template_error(&error))?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_LIMIT);
        python::add_to(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised(message)))
        });
        environment.add_function("strftime_now", move |format: String| {
            date.strftime(&format).ok_or_else(|| {
                let reason = format!("strftime_now does not know the format `{format}`");
                Error::new(ErrorKind::InvalidOperation, reason)
            })
        });
        environment.add_filter("tojson", tojson);
        environment
            .add_template_owned(NAME, replace_generation_tags(&with_unix_line_ends(source)))
            .map_err(|error| syntax_error(&error))?;
        Ok(Self { environment, source: source.to_owned() })
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders `messages`, followed by the opening of an assistant turn if `add_generation_prompt`.
    pub fn render(
        &self,
        messages: &[Message],
        tokens: &TemplateTokens,
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let template = self.environment.get_template(NAME).map_err(|error| template_error(&error))?;
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| {
                Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
            })
            .collect();
        let mut context = vec![
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        context.extend(tokens.defined().map(|(name, token)| (name, Value::from(token))));
        let context = Value::from_pairs(context);
        template.render(context).map_err(|error| template_error(&error))
    }
}

/// Jinja reads `\r\n` and `\r` in a template as `\n`. Source: jinja2, `lexer.py::Lexer._normalize_newlines`.
fn with_unix_line_ends(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

/// The message of `raise_exception`, carried through minijinja's error chain.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn template_error(error: &Error) -> TextError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut innermost = error;
    while let Some(current) = cause {
        if let Some(Raised(message)) = current.downcast_ref::<Raised>() {
            return TextError::TemplateRaised { message: message.clone() };
        }
        if let Some(current) = current.downcast_ref::<Error>() {
            innermost = current;
        }
        cause = current.source();
    }
    if innermost.kind() == ErrorKind::OutOfFuel {
        return TextError::TemplateTooExpensive;
    }
    TextError::TemplateFailed { line: innermost.line().unwrap_or(0), reason: describe(innermost) }
}

fn syntax_error(error: &Error) -> TextError {
    TextError::TemplateSyntax { line: error.line().unwrap_or(0), reason: describe(error) }
}

/// The error without minijinja's own "(in template:line)", because our errors already name the line.
fn describe(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// `{% generation %}` marks assistant text for transformers' masks and writes nothing; Solon finds masks without it. It
/// is replaced by the Jinja block `with`, which also only opens a scope. Whitespace control around it is kept.
fn replace_generation_tags(source: &str) -> String {
    let mut replaced = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        replaced.push_str(before);
        rest = tag;
        let Some(end) = tag.find("%}") else { break };
        let (inside, after) = tag.split_at(end);
        let name =
            inside.trim_matches(|character: char| character.is_whitespace() || "+-".contains(character));
        let replacement = match name {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => name,
        };
        replaced.push_str(&inside.replace(name, replacement));
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}

/// transformers' `tojson`: `json.dumps(value, ensure_ascii=…, indent=…, separators=…, sort_keys=…)`, without Jinja's HTML
/// escapes.
fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let python = match separators.as_deref() {
        None => PythonFormatter { item: ", ".to_owned(), key: ": ".to_owned() },
        Some([item, key]) if indent.is_none() => PythonFormatter { item: item.clone(), key: key.clone() },
        Some(_) => {
            let reason = "tojson: `separators` must be two texts, and without `indent`";
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
    };
    let failed = |error: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, "tojson: value is not JSON").with_source(error)
    };
    let mut value = serde_json::to_value(value).map_err(failed)?;
    if sorted {
        value.sort_all_objects();
    }
    let mut bytes = Vec::new();
    match indent {
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, python)),
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        }
    }
    .map_err(failed)?;
    let text = String::from_utf8(bytes)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "tojson: not UTF-8").with_source(error))?;
    Ok(Value::from(if ascii { escape_non_ascii(&text) } else { text }))
}

/// Non-ASCII characters are only inside JSON strings, so they can be escaped afterwards.
fn escape_non_ascii(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            let mut units = [0u16; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

/// The separators of `json.dumps`; Python's own are `", "` and `": "`.
struct PythonFormatter {
    item: String,
    key: String,
}

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(self.item.as_bytes()) }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(self.item.as_bytes()) }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn write_f64<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, value: f64) -> std::io::Result<()> {
        CompactFormatter.write_f64(writer, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, TextError> {
        let tokens = TemplateTokens { bos_token: Some("<s>".to_owned()), ..TemplateTokens::default() };
        let messages = [Message::user("héllo \"<b>\""), Message::assistant(" ok ")];
        ChatTemplate::new(source, TemplateDate::default())?.render(&messages, &tokens, true)
    }

    fn check(source: &str, expected: &str) {
        assert_eq!(render(source).expect(source), expected, "{source}");
    }

    /// The expected texts are those of transformers 5.23, except for the date.
    #[test]
    fn renders_what_transformers_renders() {
        check("{{ bos_token }}|{{ eos_token }}|{{ tools }}|{{ true }}\n", "<s>||None|True");
        check("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "héllo \"<b>\""}"#);
        check(
            "{{ messages[0] | tojson(ensure_ascii=True, sort_keys=true) }}",
            r#"{"content": "h\u00e9llo \"<b>\"", "role": "user"}"#,
        );
        check("{{ [1, {'a': none}] | tojson(indent=2) }}", "[\n  1,\n  {\n    \"a\": null\n  }\n]");
        check("{% for m in messages[1:] %}\n  {{ m.content.strip() }}{% break %}\n{% endfor %}\n", "  ok");
        check("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024");
        check("{{ 'a,b'.split(',')[-1] ~ messages[0].content.startswith('h') }}", "bTrue");
        check(
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "2",
        );
        check(
            "{% set no = none %}{{ no is iterable }}{{ [] is iterable }}{{ 1 is iterable }}",
            "FalseTrueFalse",
        );
        check("{{ 'a' is sequence }}{{ messages[0] is sequence }}{{ tools is sequence }}", "TrueTrueFalse");
        check("a\r\n{% if true %}\r\nb{% endif %}\rc\r\n", "a\nbc");
        check("a\n{%- generation -%}\n b{% endgeneration %}\nc", "abc");
    }

    #[test]
    fn raise_exception_keeps_the_templates_own_words() {
        let source =
            "{% macro refuse() %}{{ raise_exception('roles must alternate') }}{% endmacro %}{{ refuse() }}";
        match render(source) {
            Err(TextError::TemplateRaised { message }) => {
                assert_eq!(message, "roles must alternate")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_hostile_template_is_stopped() {
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        let doubling = "{% set ns = namespace(t='xxxxxxxxxxxxxxxx') %}\
            {% for a in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}";
        for source in [endless, doubling] {
            let result = render(source);
            assert!(matches!(result, Err(TextError::TemplateTooExpensive)), "{result:?}");
        }
        assert!(render("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}").is_err());
        assert!(render("{{ 'x' * 99999999999 }}").is_err());
    }

    #[test]
    fn errors_name_the_line() {
        let result = render("one\n{% if %}");
        assert!(matches!(result, Err(TextError::TemplateSyntax { line: 2, .. })), "{result:?}");
        let result = render("one\ntwo\n{{ messages[9].content.strip() }}");
        assert!(matches!(result, Err(TextError::TemplateFailed { line: 3, .. })), "{result:?}");
    }
}
