//! The report as Markdown: the same sentences and figures as the page, without charts and samples.
//!
//! [`Markdown`] escapes all text as it is written, so that neither a model nor a recipe can make markup.

use super::data::{Evaluation, Measure, Report};
use super::evaluation::title;
use super::headline::headline;
use super::run::{COMMAND, facts, promise};
use super::tables::{self, Table};
use super::visible::{hides_or_reorders, named};

/// Markdown under construction.
#[derive(Default)]
pub struct Markdown {
    out: String,
}

impl Markdown {
    /// A heading; `level` is from 1.
    pub fn heading(&mut self, level: usize, text: &str) {
        self.out += &format!("{} {}\n\n", "#".repeat(level), escaped(text));
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.out += &format!("{}\n\n", line(text));
    }

    /// A paragraph that begins with a term in bold.
    pub fn term(&mut self, term: &str, text: &str) {
        self.out += &format!("**{}** {}\n\n", escaped(term), escaped(text));
    }

    /// A list; nothing where it is empty.
    pub fn list<'a>(&mut self, items: impl IntoIterator<Item = &'a str>) {
        let before = self.out.len();
        for item in items {
            self.out += &format!("- {}\n", line(item));
        }
        if self.out.len() > before {
            self.out.push('\n');
        }
    }

    /// A table; nothing where it has no rows.
    pub fn table(&mut self, table: &Table) {
        if table.rows.is_empty() {
            return;
        }
        let row = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        self.out += &row(&table.head);
        self.out += &format!("|{}\n", " --- |".repeat(table.head.len()));
        table.rows.iter().for_each(|cells| self.out += &row(cells));
        self.out.push('\n');
    }

    /// A block of text as it is, in a fence that the text cannot close.
    pub fn code(&mut self, language: &'static str, text: &str) {
        let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        self.out += &format!("{fence}{language}\n{}\n{fence}\n\n", made_visible(text).trim_end());
    }

    /// The text so far.
    pub fn finish(self) -> String {
        format!("{}\n", self.out.trim_end())
    }
}

/// Text at the start of a line, where these signs would make a list, a heading or a rule.
fn line(text: &str) -> String {
    let guard = if text.starts_with(['-', '+', '=']) { "\\" } else { "" };
    format!("{guard}{}", escaped(text))
}

/// Text without markup, on one line.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in made_visible(text).chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            '&' => out.push_str("&amp;"),
            '\n' | '\t' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn made_visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if hides_or_reorders(c) => named(c),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// The report as Markdown.
pub fn markdown(report: &Report) -> String {
    let mut out = Markdown::default();
    out.heading(1, super::title(report));
    if let Some(sentence) = headline(report) {
        out.paragraph(&sentence);
    }
    out.list(report.verdict.iter().map(String::as_str));
    if !report.warnings.is_empty() {
        out.heading(2, "Before you believe the figures");
        out.list(report.warnings.iter().map(String::as_str));
    }
    if !report.evaluations.is_empty() {
        out.heading(2, "Before and after");
    }
    for (place, evaluation) in report.evaluations.iter().enumerate() {
        out.heading(3, &title(evaluation));
        let columns: Vec<usize> = (0..evaluation.columns.len()).collect();
        out.table(&tables::figures(evaluation, &columns));
        let known = |measure: &&Measure| {
            report.evaluations[..place].iter().any(|one| one.rows.iter().any(|row| row.key == measure.key))
        };
        let meanings = evaluation.rows.iter().filter(|measure| !known(measure));
        let meanings: Vec<String> =
            meanings.map(|measure| format!("{}: {}", measure.name, measure.explanation)).collect();
        out.list(meanings.iter().map(String::as_str));
        methods(&mut out, evaluation, &report.evaluations[..place]);
        for categories in &evaluation.categories {
            out.heading(4, &format!("{}: {} by category", categories.heading, categories.measure));
            out.table(&tables::categories(categories, &evaluation.columns));
        }
    }
    if !report.evaluations.is_empty() {
        if let Some(decided) = super::evaluation::decided(report) {
            out.term("What decided.", &decided);
        }
        out.term("One seed.", &super::evaluation::one_seed(report.setting.seed));
    }
    if !report.curves.is_empty() || !report.notes.is_empty() {
        out.heading(2, "Training");
        out.list(report.notes.iter().map(String::as_str));
        out.table(&tables::curves(&report.curves));
    }
    if let Some(labeller) = &report.labeller {
        out.heading(2, "The labeller");
        out.paragraph(&labeller.verdict);
        if let Some(warning) = &labeller.warning {
            out.term("Warning.", warning);
        }
        let rows = labeller.rows.iter().map(|(what, figure)| (what.as_str(), figure.as_str()));
        out.table(&tables::pairs(["Measured", "Figure"], rows));
    }
    for part in &report.inferred {
        out.heading(2, &format!("Inferred principles: {}", part.stage));
        out.paragraph(&part.verdict);
        out.paragraph(&part.method);
        out.table(&tables::inferred(part));
    }
    if !report.stages.is_empty() {
        out.heading(2, "Stages and time");
        out.table(&tables::stages(&report.stages));
    }
    out.heading(2, "Repeat this run");
    repeat(&mut out, report);
    out.paragraph("The charts, the samples and the trails are in report.html beside this file.");
    out.finish()
}

/// How an evaluation was measured, and how far its judgement can be believed.
pub fn methods(out: &mut Markdown, evaluation: &Evaluation, earlier: &[Evaluation]) {
    for judge in &evaluation.judges {
        let name = format!("The judge {}", judge.name);
        if judge.sets.is_empty() {
            out.term(&name, "was not measured. Its figures are not to be relied on.");
        } else {
            out.term(&name, "on answers whose labels are known:");
            out.table(&tables::judge(judge));
        }
    }
    for (term, text) in super::evaluation::methods(evaluation, earlier) {
        out.term(term, &text);
    }
}

/// What the run was made from, the command, and the recipe.
pub fn repeat(out: &mut Markdown, report: &Report) {
    let facts = facts(report);
    out.table(&tables::pairs(["", ""], facts.iter().map(|(name, value)| (*name, value.as_str()))));
    out.paragraph("Save the recipe below as recipe.toml and run");
    out.code("sh", COMMAND);
    promise(report).iter().for_each(|sentence| out.paragraph(sentence));
    if !report.setting.recipe.is_empty() {
        out.code("toml", &report.setting.recipe);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_makes_no_markup() {
        let hostile = "a|b\n# <img onerror=1> [x](http://e) *b* `c` &lt; \u{202e}";
        assert_eq!(
            escaped(hostile),
            "a\\|b \\# \\<img onerror=1\\> \\[x\\](http://e) \\*b\\* \\`c\\` &amp;lt; ⟨U+202E⟩"
        );
        let mut out = Markdown::default();
        out.paragraph("---");
        out.list(["- a"]);
        assert_eq!(out.finish(), "\\---\n\n- \\- a\n");
    }

    #[test]
    fn a_block_cannot_be_closed_from_inside() {
        let mut out = Markdown::default();
        out.code("toml", "a\n````\n<script>\n");
        assert_eq!(out.finish(), "`````toml\na\n````\n<script>\n`````\n");
    }

    #[test]
    fn a_table_has_as_many_cells_in_each_row() {
        let mut out = Markdown::default();
        out.table(&tables::pairs(["What", "Figure"], [("a|b", "1"), ("c", "2")]));
        assert_eq!(out.finish(), "| What | Figure |\n| --- | --- |\n| a\\|b | 1 |\n| c | 2 |\n");
    }
}
