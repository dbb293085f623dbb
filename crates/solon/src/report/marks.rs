//! Marks of models in charts: every model has a shape and a colour of its own, the same in each chart of an evaluation.

use super::axis::Length;
use super::html::Html;

/// Number of colours in the style sheet; further models use them again.
const STYLES: usize = 6;

/// The class of a model's colour.
pub fn class(index: usize) -> String {
    format!("model series-{}", index % STYLES)
}

/// Draws the mark of the model with this index, inside an element of [`class`].
pub fn mark(html: &mut Html, index: usize, x: f64, y: f64) {
    let [left, top] = [x - 3.5, y - 3.5].map(Length);
    let path = match index % 4 {
        0 => {
            let (x, y) = (Length(x), Length(y));
            return html.empty("circle", &[("class", &"mark"), ("cx", &x), ("cy", &y), ("r", &"4")]);
        }
        1 => format!("M{left} {top}h7v7h-7z"),
        2 => format!("M{} {}l5 5l-5 5l-5 -5z", Length(x), Length(y - 5.0)),
        _ => format!("M{} {}l4.8 8.4h-9.6z", Length(x), Length(y - 5.2)),
    };
    html.empty("path", &[("class", &"mark"), ("d", &path)]);
}

/// Writes which mark is which model.
pub fn legend(html: &mut Html, names: &[String]) {
    html.element("ul", &[("class", &"legend")], |html| {
        for (i, name) in names.iter().enumerate() {
            html.element("li", &[], |html| {
                html.element("svg", &[("viewBox", &"0 0 14 14"), ("aria-hidden", &"true")], |html| {
                    html.element("g", &[("class", &class(i))], |html| mark(html, i, 7.0, 7.0));
                });
                html.text(name);
            });
        }
    });
}
