//! What numbers on the command line may be: clap's error then names the flag, and nothing has run.

/// A number above 0.
pub fn above_zero(text: &str) -> Result<f64, String> {
    number(text, "a number above 0", |number| number > 0.0)
}

/// A number that is at least 0.
pub fn at_least_zero(text: &str) -> Result<f64, String> {
    number(text, "a number that is at least 0", |number| number >= 0.0)
}

/// A whole number that is at least 1.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse::<u64>().ok().and_then(|count| usize::try_from(count).ok()) {
        Some(count) if count > 0 => Ok(count),
        _ => Err("give a whole number that is at least 1".to_owned()),
    }
}

/// A number of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    /// Above the number of processors of any machine.
    const MOST: usize = 4096;
    count(text)
        .ok()
        .filter(|count| *count <= MOST)
        .ok_or_else(|| format!("give a whole number from 1 to {MOST}"))
}

fn number(text: &str, expected: &str, fits: impl Fn(f64) -> bool) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && fits(number) => Ok(number),
        _ => Err(format!("give {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_range_is_a_number() {
        for text in ["-1", "0", "nan", "inf", "-inf", "1e400", "", "x"] {
            assert!(above_zero(text).is_err(), "{text}");
            assert!(count(text).is_err(), "{text}");
        }
        assert_eq!((above_zero("1e-3"), at_least_zero("0"), count("3")), (Ok(0.001), Ok(0.0), Ok(3)));
        assert!(
            at_least_zero("-0.1").is_err() && count("1.5").is_err() && count("99999999999999999999").is_err()
        );
    }
}
