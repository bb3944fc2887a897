//! Texts of others, as a terminal may show them: what pods, users and servers say must not steer it.
//! Entries: [`visible`] for a word, [`visible_line`] and [`visible_text`] for what has blanks. Pure.
//! What is visible already stays as it is, so a text may come here twice.

/// One word: nothing in it looks like several fields or lines.
pub(crate) fn visible(text: &str) -> String {
    escaped(text, |_| false)
}

/// As [`visible`], of a sentence: its words stay apart.
pub(crate) fn visible_words(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(visible).collect();
    words.join(" ")
}

/// As [`visible`], of one line: its blanks stay.
pub(crate) fn visible_line(text: &str) -> String {
    escaped(text, is_blank)
}

/// As [`visible_line`], of several lines, which may have tabs.
pub(crate) fn visible_text(text: &str) -> String {
    escaped(text, |c| is_blank(c) || matches!(c, '\n' | '\t'))
}

/// Whether a character steers the terminal, turns the order of what follows, or is not seen.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control() || is_format(c)
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if stays(c) {
            shown.push(c);
        } else if c.is_control() {
            shown.extend(c.escape_default());
        } else if c.is_whitespace() || is_format(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// White space that neither ends a line nor moves by more than a column or two.
fn is_blank(c: char) -> bool {
    c.is_whitespace() && !is_hidden(c)
}

/// Unicode's characters of category Cf that no name needs, and its separators of lines and paragraphs.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_the_terminal_or_turn_the_line_around_is_written_out() {
        assert_eq!(
            visible_words("no \u{1b}]52;c;x\u{7}  answer\n"),
            "no \\u{1b}]52;c;x\\u{7} answer"
        );
        assert_eq!(
            visible("/a\u{202e}b\u{200b}c d"),
            "/a\\u{202e}b\\u{200b}c\\u{20}d"
        );
        assert_eq!(visible("/grüße/投票"), "/grüße/投票");
    }

    #[test]
    fn lines_keep_their_blanks_and_texts_their_lines() {
        let text = "a  b\u{3000}c\n\td\r\u{9b}2J\u{2028}e";
        assert_eq!(
            visible_line(text),
            "a  b\u{3000}c\\n\\td\\r\\u{9b}2J\\u{2028}e"
        );
        assert_eq!(
            visible_text(text),
            "a  b\u{3000}c\n\td\\r\\u{9b}2J\\u{2028}e"
        );
        for shown in [visible(text), visible_line(text)] {
            assert_eq!(visible_line(&shown), shown);
        }
    }
}
