//! Formats numbers for people.

/// A share as a percentage with one decimal; a dash where it is not finite.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}%", share * 100.0) } else { "–".to_owned() }
}

/// A number with two decimals; a dash where it is not finite.
pub fn decimal(number: f64) -> String {
    if number.is_finite() { format!("{number:.2}") } else { "–".to_owned() }
}

/// Two shares as an interval.
pub fn interval(low: f64, high: f64) -> String {
    if low.is_finite() && high.is_finite() {
        format!("{:.1} – {:.1}", low * 100.0, high * 100.0)
    } else {
        "no interval".to_owned()
    }
}

/// A p-value with its sign: `p = 0.012`, `p < 0.001`.
pub fn p_value(p: f64) -> String {
    if !p.is_finite() {
        "p unknown".to_owned()
    } else if p < 0.001 {
        "p < 0.001".to_owned()
    } else if p < 0.1 {
        format!("p = {p:.3}")
    } else {
        format!("p = {p:.2}")
    }
}

/// A duration in its two largest units.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{minutes} min {} s", whole % 60),
        3600..172_800 => format!("{hours} h {minutes} min"),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// A size in decimal units.
pub fn bytes(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1000.0;
    let mut unit = 0;
    while size >= 999.95 && unit + 1 < units.len() {
        size /= 1000.0;
        unit += 1;
    }
    format!("{size:.1} {}", units[unit])
}

/// A count with thin spaces between thousands.
pub fn count(count: usize) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// `1 item`, `2 items`.
pub fn counted(n: usize, singular: &str) -> String {
    format!("{} {singular}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A reason of the ledger in words: `revision/copies_critique` is `revision: copies critique`.
pub fn reason(reason: &str) -> String {
    reason.replace('/', ": ").replace('_', " ")
}

/// A sentence in which no line breaks inside a figure: not before a percent sign, and not around `<`, `=` and `→`.
pub fn unbroken(text: &str) -> String {
    let mut text = text.replace(" %", "\u{a0}%");
    for sign in ["<", "=", "→"] {
        text = text.replace(&format!(" {sign} "), &format!("\u{a0}{sign}\u{a0}"));
    }
    text
}

/// Four significant digits, for values in descriptions.
pub fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() || !(1e-3..1e6).contains(&value.abs()) {
        return format!("{value:.2e}");
    }
    let decimals = (3 - value.abs().log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            (0.04, "0.0 s"),
            (9.97, "10 s"),
            (59.6, "1 min 0 s"),
            (8040.0, "2 h 14 min"),
            (200_000.0, "2 d 7 h"),
            (f64::NAN, "–"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(98_362_432), "98.4 MB");
        assert_eq!(bytes(999_999_999), "1.0 GB");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(12), "12");
        assert_eq!(counted(1, "label"), "1 label");
    }

    #[test]
    fn figures_stay_on_one_line() {
        assert_eq!(
            unbroken("harm 70 % → 12 % (p < 0.1)"),
            "harm 70\u{a0}%\u{a0}→\u{a0}12\u{a0}% (p\u{a0}<\u{a0}0.1)"
        );
        assert_eq!(reason("revision/copies_critique"), "revision: copies critique");
    }

    #[test]
    fn short_values() {
        let cases = [
            (0.0, "0"),
            (0.71234, "0.7123"),
            (1200.0, "1200"),
            (2e-5, "2.00e-5"),
            (0.5, "0.5"),
            (-3.25, "-3.25"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn p_values_say_no_more_than_they_know() {
        assert_eq!(p_value(0.0), "p < 0.001");
        assert_eq!(p_value(0.0123), "p = 0.012");
        assert_eq!(p_value(0.734), "p = 0.73");
        assert_eq!(p_value(f64::NAN), "p unknown");
    }
}
