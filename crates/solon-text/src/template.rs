//! Chat templates: untrusted Jinja programs that turn messages into one text.
//!
//! Contract: the same text as transformers' `apply_chat_template(messages, tools=…, tokenize=False, **chat_template_kwargs)` for messages
//! whose contents are texts. Reasoning is seen under its names as there: `reasoning_content` and `thinking` both hold it.
//! Source: transformers 5.24, `utils/chat_template_utils.py::_cached_compile_jinja_template`, whose environment is repeated
//! here: `trim_blocks`, `lstrip_blocks`, loop controls, `raise_exception`, `strftime_now`, a `tojson` that is
//! `json.dumps(ensure_ascii=False)`, and the `{% generation %}` tag; `render_jinja_template`, `_alias_reasoning_fields` and
//! `tokenization_utils_base.py::_normalize_chat_messages` for what templates see.
//!
//! There are two deliberate differences: the date is fixed (see [`TemplateDate`]), and there are limits: on the length of the
//! template, on steps, bytes and nested calls of a rendering, and on the seconds that either takes.

use std::fmt;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, escape_formatter};

use crate::apart::{self, NoResult};
use crate::tojson::{python_float, tojson};
use crate::{TemplateDate, TextError, python};
use solon_records::{Message, TemplateInputs};

/// ChatML, for a model whose files have no template but whose vocabulary has `<|im_start|>` and `<|im_end|>`.
pub const CHATML_TEMPLATE: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// minijinja charges about one unit for a step and one for 64 bytes. The limit allows at most a few seconds and 256
/// MiB, or as much stack as two million lists in one another take when they are printed.
const FUEL: u64 = 4_000_000;
/// Nested macros, includes and blocks. Real templates stay below ten.
const RECURSION_LIMIT: usize = 100;
/// Most bytes of a template. The longest published ones have about 30,000.
pub const LONGEST_TEMPLATE: usize = 256 << 10;
/// Most bytes of one of its lines. Expressions are parsed by recursion, and columns are counted in 16 bits.
const LONGEST_LINE: usize = 60_000;
/// Seconds for what takes a fraction of one. Comparing values costs no fuel.
const PATIENCE: u32 = 20;
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
    environment: Arc<Environment<'static>>,
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
        check_length(source)?;
        let given = source.to_owned();
        let environment = patiently(move || Self::compile(&given, date))?;
        Ok(Self { environment: Arc::new(environment), source: source.to_owned() })
    }

    fn compile(source: &str, date: TemplateDate) -> Result<Environment<'static>, TextError> {
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
        environment.set_formatter(|out, state, value| match f64::try_from(value.clone()) {
            Ok(number) if value.is_number() && !value.is_integer() => {
                Ok(out.write_str(&python_float(number))?)
            }
            _ => escape_formatter(out, state, value),
        });
        environment
            .add_template_owned(NAME, replace_generation_tags(&with_unix_line_ends(source)))
            .map_err(|error| syntax_error(&error))?;
        Ok(environment)
    }

    /// Whether the template names this variable.
    pub fn names(&self, variable: &str) -> bool {
        let mut words = self.source.split(|character: char| !character.is_alphanumeric() && character != '_');
        words.any(|word| word == variable)
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
        let inputs = TemplateInputs::of(messages);
        let tools = inputs.map(|inputs| &inputs.tools).filter(|tools| !tools.is_empty());
        let mut context = vec![
            ("messages", messages.iter().map(seen).collect::<Vec<_>>().into()),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            (
                "tools",
                tools.map_or(Value::from(()), |tools| tools.iter().map(value_of).collect::<Vec<_>>().into()),
            ),
            ("documents", Value::from(())),
        ];
        context.extend(tokens.defined().map(|(name, token)| (name, Value::from(token))));
        // Of two equal names the later one counts: a row may give a special token.
        let kwargs = inputs.iter().flat_map(|inputs| &inputs.chat_template_kwargs);
        context.extend(kwargs.map(|(name, value)| (name.as_str(), value_of(value))));
        let context = Value::from_pairs(context);
        let environment = self.environment.clone();
        patiently(move || {
            let template = environment.get_template(NAME).map_err(|error| template_error(&error))?;
            template.render(context).map_err(|error| template_error(&error))
        })
    }
}

/// Does what takes a fraction of a second, unless someone means harm.
fn patiently<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TextError> + Send + 'static,
) -> Result<T, TextError> {
    apart::within(PATIENCE, work).unwrap_or_else(|none| {
        Err(match none {
            NoResult::NoEnd => TextError::TemplateTooExpensive,
            NoResult::NoThread(source) => TextError::TemplateThread { source },
            NoResult::Panic => {
                TextError::TemplateFailed { line: 0, reason: "the template engine panicked".to_owned() }
            }
        })
    })
}

fn check_length(source: &str) -> Result<(), TextError> {
    if source.len() > LONGEST_TEMPLATE {
        return Err(TextError::TemplateTooLong { found: format!("{} bytes", source.len()) });
    }
    match with_unix_line_ends(source)
        .lines()
        .map(str::len)
        .enumerate()
        .find(|(_, length)| *length > LONGEST_LINE)
    {
        None => Ok(()),
        Some((line, length)) => {
            Err(TextError::TemplateTooLong { found: format!("line {} has {length} bytes", line + 1) })
        }
    }
}

/// A message as templates see it.
fn seen(message: &Message) -> Value {
    let mut fields = vec![("role", Value::from(message.role.as_str()))];
    if !message.beside.without_content {
        fields.push(("content", message.content.as_str().into()));
    }
    let beside = &message.beside.fields;
    let reasoning = message.beside.reasoning();
    let given = beside.iter().map(|(name, value)| (name.as_str(), value_of(value)));
    if let Some(reasoning) = reasoning.filter(|_| !beside.contains_key("thinking")) {
        fields.insert(0, ("thinking", reasoning.into()));
    }
    fields.extend(given);
    if let Some(reasoning) = reasoning.filter(|_| !beside.contains_key("reasoning_content")) {
        fields.push(("reasoning_content", reasoning.into()));
    }
    Value::from_pairs(fields)
}

/// A JSON value as templates see it.
fn value_of(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => number.as_f64().map_or(Value::from(()), Value::from),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => list.iter().map(value_of).collect::<Vec<_>>().into(),
        Json::Object(map) => {
            Value::from_pairs(map.iter().map(|(name, value)| (name.as_str(), value_of(value))))
        }
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

    /// The expected texts are those of transformers 5.24.
    #[test]
    fn what_stands_beside_the_text_is_seen_as_in_transformers() {
        let messages: Vec<Message> = serde_json::from_str(
            r#"[{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[{"id":"1","function":{"name":"f","arguments":{"b":1e20,"a":[1.0,1e-7,null,"é"]}}}],
                "template_inputs":{"tools":[{"type":"function","function":{"name":"f"}}],"chat_template_kwargs":{"bos_token":"B","deep":false}}}]"#,
        )
        .expect("messages");
        let check = |source: &str, expected: &str| {
            let tokens = TemplateTokens { bos_token: Some("<s>".to_owned()), ..TemplateTokens::default() };
            let template = ChatTemplate::new(source, TemplateDate::default()).expect("a template");
            assert_eq!(template.render(&messages, &tokens, false).expect(source), expected, "{source}");
        };
        check(
            "{{ messages[0] | tojson }}",
            r#"{"thinking": "r", "role": "assistant", "reasoning_content": "r", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"b": 1e+20, "a": [1.0, 1e-07, null, "é"]}}}]}"#,
        );
        check("{{ 'content' in messages[0] }}{{ messages[0].content is defined }}", "FalseFalse");
        check(
            "{{ tools | tojson }}{{ tools[0].function.name }}",
            r#"[{"type": "function", "function": {"name": "f"}}]f"#,
        );
        check("{{ bos_token }}{{ deep }}{{ deeper is defined }}", "BFalseFalse");
        check(
            "{% for k, v in messages[0].tool_calls[0].function.arguments.items() %}{{ k }}={{ v | tojson(indent=1) }};{% endfor %}",
            "b=1e+20;a=[\n 1.0,\n 1e-07,\n null,\n \"é\"\n];",
        );
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
        let listed =
            "{% set ns = namespace(l=[]) %}{% for a in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}";
        let written = format!("{listed}{{{{ ns.l | tojson }}}}");
        let sorted = format!("{listed}{{{{ ns.l | tojson(sort_keys=true, indent=1) }}}}");
        for source in [endless, doubling, &written, &sorted] {
            let result = render(source);
            assert!(matches!(result, Err(TextError::TemplateTooExpensive)), "{result:?}");
        }
        assert!(render("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}").is_err());
        assert!(render("{{ 'x' * 99999999999 }}").is_err());
    }

    /// The stack of an ordinary thread would run over, which ends the process.
    #[test]
    fn nesting_has_room() {
        let most = "[".repeat(40);
        let deep = format!(
            "{{% set ns = namespace(l=[]) %}}{{% for a in range(2000) %}}{{% set ns.l = {most}ns.l{} %}}{{% endfor %}}",
            "]".repeat(40)
        );
        for (use_of_it, length) in
            [("{{ ns.l }}", 160_002), ("{{ ns.l | tojson }}", 160_002), ("{{ ns.l == ns.l }}", 4)]
        {
            assert_eq!(
                render(&format!("{deep}{use_of_it}")).map(|text| text.len()).ok(),
                Some(length),
                "{use_of_it}"
            );
        }
        for (start, middle, end) in [
            ("{{ ", "-", "1 }}"),
            ("{{ 1", "+1", " }}"),
            ("{{ x", ".a", " }}"),
            ("{{ 1", "|abs", " }}"),
            ("{% if 0 %}", "{% elif 0 %}\n", "{% endif %}"),
        ] {
            let source = [start, &middle.repeat(59_000 / middle.len()), end].concat();
            assert!(ChatTemplate::new(&source, TemplateDate::default()).is_ok(), "{middle}");
        }
    }

    #[test]
    fn a_template_that_is_too_long_is_refused() {
        let check = |source: String, expected: &str| {
            let error = ChatTemplate::new(&source, TemplateDate::default()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("x\n".repeat(200_000), "too long: 400000 bytes");
        // One column more than 16 bits hold.
        check(format!("\r{{#{}", "{".repeat(1 << 16)), "too long: line 2 has 65538 bytes");
    }

    #[test]
    fn errors_name_the_line() {
        let result = render("one\n{% if %}");
        assert!(matches!(result, Err(TextError::TemplateSyntax { line: 2, .. })), "{result:?}");
        let result = render("one\ntwo\n{{ messages[9].content.strip() }}");
        assert!(matches!(result, Err(TextError::TemplateFailed { line: 3, .. })), "{result:?}");
    }
}
