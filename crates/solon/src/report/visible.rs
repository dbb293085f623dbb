//! Characters that are invisible but change what is read, made visible. Models write them, and a reader must see that.

/// Whether `c` is invisible but changes what is seen: control characters, marks and overrides of writing direction,
/// line separators, zero-width spaces, invisible operators and tag characters. Joiners are not included, because
/// Persian and emoji need them.
pub fn hides_or_reorders(c: char) -> bool {
    matches!(
        c,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// A character that is not shown as itself.
pub fn named(c: char) -> String {
    format!("⟨U+{:04X}⟩", u32::from(c))
}
