//! Principles that were inferred from preferences, with what each explains.

use super::data::Inferred;
use super::html::Html;

/// Writes the part of one stage.
pub fn inferred(html: &mut Html, part: &Inferred) {
    html.leaf("p", &[("class", &"lead")], &part.verdict);
    html.leaf("p", &[("class", &"note")], &part.method);
    html.element("table", &[], |html| {
        html.leaf("caption", &[], format!("Principles of {}.", part.stage));
        html.element("thead", &[], |html| {
            html.element("tr", &[], |html| {
                Inferred::HEAD.iter().for_each(|name| html.leaf("th", &[("scope", &"col")], name));
            });
        });
        html.element("tbody", &[], |html| {
            for row in &part.rows {
                html.element("tr", &[], |html| {
                    for (place, cell) in row.iter().enumerate() {
                        match place {
                            0 => html.leaf("th", &[("scope", &"row")], cell),
                            1 => html.leaf("td", &[], cell),
                            _ => html.leaf("td", &[("class", &"number")], cell),
                        }
                    }
                });
            }
        });
    });
}
