//! An HTML writer that always escapes text and always closes elements. Text and attribute values are escaped when they
//! are written. An element is closed when the function that fills it returns.
//!
//! Names of elements and attributes are `&'static str`: they are written in this program and never come from a model.

use super::visible::{hides_or_reorders, named};
use std::fmt::{self, Display, Write};

/// An element's attributes; values are escaped as they are written.
pub type Attributes<'a> = &'a [(&'static str, &'a dyn Display)];

/// HTML under construction.
#[derive(Default)]
pub struct Html {
    out: String,
}

impl Html {
    /// An empty page with its doctype.
    pub fn page() -> Self {
        Self { out: "<!DOCTYPE html>\n".to_owned() }
    }

    /// Writes `text`, escaped, with control characters made visible.
    pub fn text(&mut self, text: impl Display) {
        write_escaped(&mut self.out, &text);
    }

    /// Writes an element and, inside it, what `fill` writes.
    pub fn element(&mut self, name: &'static str, attributes: Attributes, fill: impl FnOnce(&mut Self)) {
        self.open(name, attributes);
        self.out.push('>');
        fill(self);
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
        // Line breaks keep the file readable. They are only written after blocks, where white space is not shown.
        if matches!(name, "section" | "header" | "tr" | "article" | "figure" | "svg" | "p" | "li" | "div") {
            self.out.push('\n');
        }
    }

    /// Writes an element that contains only text.
    pub fn leaf(&mut self, name: &'static str, attributes: Attributes, text: impl Display) {
        self.element(name, attributes, |html| html.text(text));
    }

    /// Writes an element without content: `<meta />`, `<circle />`.
    pub fn empty(&mut self, name: &'static str, attributes: Attributes) {
        self.open(name, attributes);
        self.out.push_str(" />");
    }

    /// Writes a script without escaping it; so it must be part of this program.
    pub fn script(&mut self, script: &'static str) {
        self.out.push_str("<script>");
        self.out.push_str(script);
        self.out.push_str("</script>\n");
    }

    /// Writes a style sheet without escaping it; so it must be part of this program.
    pub fn style(&mut self, css: &'static str) {
        self.out.push_str("<style>\n");
        self.out.push_str(css);
        self.out.push_str("</style>\n");
    }

    /// The HTML written so far.
    pub fn finish(self) -> String {
        self.out
    }

    fn open(&mut self, name: &'static str, attributes: Attributes) {
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in attributes {
            self.out.push(' ');
            self.out.push_str(attribute);
            self.out.push_str("=\"");
            write_escaped(&mut self.out, value);
            self.out.push('"');
        }
    }
}

fn write_escaped(out: &mut String, text: &dyn Display) {
    // Neither `Escaped` nor `String` can fail; a `Display` that fails has written what it could.
    let _ = write!(Escaped { out }, "{text}");
}

/// Escapes everything that is written to it.
struct Escaped<'a> {
    out: &'a mut String,
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                '\n' | '\t' => self.out.push(c),
                c if hides_or_reorders(c) => self.out.push_str(&named(c)),
                c => self.out.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut html = Html::default();
        html.text(text);
        html.finish()
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escaped("<b>&'\"</b>"), "&lt;b&gt;&amp;&#39;&quot;&lt;/b&gt;");
    }

    #[test]
    fn invisible_characters_are_shown() {
        assert_eq!(escaped("a\0\x1b\r\x7f\n\t"), "a⟨U+0000⟩⟨U+001B⟩⟨U+000D⟩⟨U+007F⟩\n\t");
        assert_eq!(escaped("\u{202e}\u{200b}\u{85}\u{e0041}"), "⟨U+202E⟩⟨U+200B⟩⟨U+0085⟩⟨U+E0041⟩");
    }

    #[test]
    fn writing_systems_are_left_alone() {
        for text in ["سلام", "می\u{200c}خواهم", "👩\u{200d}🔬", "naïve — “quotes”"] {
            assert_eq!(escaped(text), text);
        }
    }

    #[test]
    fn attributes_cannot_be_left() {
        let mut html = Html::default();
        html.leaf("b", &[("title", &"\"><script>")], "x");
        assert_eq!(html.finish(), "<b title=\"&quot;&gt;&lt;script&gt;\">x</b>");
    }
}
