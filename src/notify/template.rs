//! Texts with `{placeholders}`. What stands in braces and is none stays as it is, so that JSON needs no escapes.

use super::event::{Notice, PLACEHOLDERS};

/// What is done to values so that they stay values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    Plain,
    /// Inside a JSON string.
    Json,
    /// Inside a form (`application/x-www-form-urlencoded`).
    Form,
    /// On one line: a header of a mail.
    Line,
}

/// The text with all placeholders filled in. What values hold is not looked at again.
pub(super) fn fill(template: &str, notice: &Notice<'_>, escape: Escape) -> String {
    let mut text = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        text.push_str(before);
        let name = word(from);
        match name.and_then(|name| notice.value(name)) {
            Some(value) => {
                text.push_str(&escaped(&value, escape));
                rest = &from[name.map_or(0, str::len) + 2..];
            }
            None => {
                text.push('{');
                rest = &from[1..];
            }
        }
    }
    text.push_str(rest);
    text
}

/// What is wrong with a template: a word in braces that looks like a placeholder and is none.
pub fn check(template: &str) -> Result<(), String> {
    for (start, _) in template.match_indices('{') {
        if let Some(name) = word(&template[start..])
            && !PLACEHOLDERS.contains(&name)
        {
            return Err(format!(
                "{{{name}}} is no placeholder: there are {}",
                PLACEHOLDERS.join(", ")
            ));
        }
    }
    Ok(())
}

/// The word between the brace that the text begins with and the next.
fn word(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('{')?.split_once('}')?;
    let is_word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_word.then_some(name)
}

pub(super) fn escaped(value: &str, escape: Escape) -> String {
    match escape {
        Escape::Plain => value.to_owned(),
        Escape::Json => {
            let quoted = serde_json::Value::from(value).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        }
        Escape::Form => url::form_urlencoded::byte_serialize(value.as_bytes()).collect(),
        Escape::Line => line(value),
    }
}

/// One line without control characters, whatever the text holds.
pub(super) fn line(text: &str) -> String {
    // U+2028 and U+2029 end lines for some
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let pieces = text.split(breaks).map(str::trim).filter(|piece| !piece.is_empty());
    pieces.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::event::Reason;
    use super::super::tests::failure;
    use super::*;

    fn check_fill(template: &str, escape: Escape, expected: &str) {
        let mut event = failure();
        event.host = "we\"b\n1".into();
        event.sentence = "it {state}s: 100 %".into();
        let notice =
            Notice { event: &event, reason: Reason::Change, before: None, now_ms: 1_000_000_000 };
        assert_eq!(fill(template, &notice, escape), expected, "{template}");
    }

    #[test]
    fn placeholders_are_filled_once_and_escaped() {
        check_fill("{host}", Escape::Plain, "we\"b\n1");
        check_fill(r#"{"a":"{host}"}"#, Escape::Json, r#"{"a":"we\"b\n1"}"#);
        check_fill(
            "h={host}&s={sentence}",
            Escape::Form,
            "h=we%22b%0A1&s=it+%7Bstate%7Ds%3A+100+%25",
        );
        check_fill("{host} {sentence}", Escape::Line, "we\"b 1 it {state}s: 100 %");
    }

    #[test]
    fn other_braces_stay() {
        for text in ["{", "}", "{}", "{{", "{ host }", "{unknown}", "{\"x\":{\"y\":1}}", "é{é}{"]
        {
            check_fill(text, Escape::Plain, text);
        }
        check_fill("{{profile}}", Escape::Plain, "{nightly}");
        check_fill("{x{profile}", Escape::Plain, "{xnightly");
    }

    #[test]
    fn a_mistyped_placeholder_is_named() {
        assert_eq!(check(r#"{"text":"{host}: {sentence}"}"#), Ok(()));
        let error = check("{hots} failed").unwrap_err();
        assert!(error.contains("{hots}") && error.contains("host"), "{error}");
    }

    #[test]
    fn every_placeholder_has_a_value() {
        let event = failure();
        let notice = Notice { event: &event, reason: Reason::Change, before: None, now_ms: 0 };
        for name in PLACEHOLDERS {
            assert!(notice.value(name).is_some(), "{name}");
        }
    }

    #[test]
    fn lines_are_lines() {
        assert_eq!(line("a\r\nBcc: x\u{2028}y\0z\u{85}"), "a Bcc: x y z");
    }
}
