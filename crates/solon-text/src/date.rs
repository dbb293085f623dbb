//! The date that a chat template gets from `strftime_now`.
//!
//! transformers gives templates the machine's clock. Here the date is a setting: with a clock in the prompt, the same
//! recipe would give different weights on another day. The default is 26 July 2024, the date that Llama 3.2's own
//! template uses if `strftime_now` is missing.

use crate::TextError;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A civil date; the time of day is always midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateDate {
    year: i32,
    month: u32,
    day: u32,
}

impl Default for TemplateDate {
    fn default() -> Self {
        Self { year: 2024, month: 7, day: 26 }
    }
}

impl TemplateDate {
    /// A date of the Gregorian calendar, years 1 to 9999.
    pub fn new(year: i32, month: u32, day: u32) -> Result<Self, TextError> {
        let exists = (1..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day);
        if exists { Ok(Self { year, month, day }) } else { Err(TextError::InvalidDate { year, month, day }) }
    }

    /// C's `strftime` in the C locale, with the directives templates use. `None` for an unknown directive.
    pub(crate) fn strftime(&self, format: &str) -> Option<String> {
        let mut text = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            let mut directive = characters.next()?;
            let unpadded = directive == '-';
            if unpadded {
                directive = characters.next()?;
            }
            let (number, width) = match directive {
                'd' => (self.day, 2),
                'm' => (self.month, 2),
                'y' => (self.year.unsigned_abs() % 100, 2),
                'Y' => (self.year.unsigned_abs(), 4),
                'j' => (self.day_of_year(), 3),
                'H' | 'M' | 'S' => (0, 2),
                'I' => (12, 2),
                _ => {
                    text.push_str(&self.name(directive)?);
                    continue;
                }
            };
            let width = if unpadded { 0 } else { width };
            text.push_str(&format!("{number:0width$}"));
        }
        Some(text)
    }

    fn name(&self, directive: char) -> Option<String> {
        let month = MONTHS[self.month as usize - 1];
        let weekday = WEEKDAYS[self.weekday()];
        Some(match directive {
            'b' | 'h' => month[..3].to_owned(),
            'B' => month.to_owned(),
            'a' => weekday[..3].to_owned(),
            'A' => weekday.to_owned(),
            'e' => format!("{:2}", self.day),
            'p' => "AM".to_owned(),
            'F' => self.strftime("%Y-%m-%d")?,
            'T' => "00:00:00".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }

    fn day_of_year(&self) -> u32 {
        (1..self.month).map(|month| days_in(self.year, month)).sum::<u32>() + self.day
    }

    /// 0 is Sunday.
    fn weekday(&self) -> usize {
        // 1 January of year 1 was a Monday.
        let years = self.year - 1;
        let days = years * 365 + years / 4 - years / 100 + years / 400 + self.day_of_year() as i32;
        days as usize % 7
    }
}

fn days_in(year: i32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(date: (i32, u32, u32), format: &str, expected: Option<&str>) {
        let date = TemplateDate::new(date.0, date.1, date.2).expect("a date");
        assert_eq!(date.strftime(format).as_deref(), expected, "{format}");
    }

    #[test]
    fn formats_as_python_does() {
        check((2024, 7, 26), "%d %b %Y", Some("26 Jul 2024"));
        check((2024, 7, 26), "%A, %B %d, %Y (%j) 100%%", Some("Friday, July 26, 2024 (208) 100%"));
        check(
            (2000, 2, 29),
            "%a %e %-m/%-d/%y %F %H:%M:%S %I %p",
            Some("Tue 29 2/29/00 2000-02-29 00:00:00 12 AM"),
        );
        check((1, 1, 1), "%A", Some("Monday"));
        check((2024, 7, 26), "%Q", None);
        check((2024, 7, 26), "%", None);
    }

    #[test]
    fn a_day_that_never_was_is_refused() {
        for (year, month, day) in
            [(2023, 2, 29), (1900, 2, 29), (2024, 13, 1), (2024, 0, 1), (2024, 4, 31), (0, 1, 1)]
        {
            assert!(matches!(TemplateDate::new(year, month, day), Err(TextError::InvalidDate { .. })));
        }
    }
}
