//! Names of snapshots and sets, from patterns such as `web-{time:%Y-%m-%d}` or `backup-{id}`.

use jiff::Zoned;

/// Fills a pattern in: `{host}`, `{profile}`, `{id}` and `{time:FORMAT}`, the format being `strftime`'s.
pub fn fill(
    pattern: &str,
    host: &str,
    profile: &str,
    id: Option<u32>,
    now: &Zoned,
) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = pattern;
    while let Some(start) = rest.find('{') {
        let (before, behind) = rest.split_at(start);
        filled.push_str(before);
        let end = behind.find('}').ok_or_else(|| format!("{pattern:?}: a {{ is never closed"))?;
        let word = &behind[1..end];
        match (word, word.strip_prefix("time:"), id) {
            ("host", ..) => filled.push_str(host),
            ("profile", ..) => filled.push_str(profile),
            ("id", _, Some(id)) => filled.push_str(&id.to_string()),
            ("id", _, None) => {
                return Err(format!("{pattern:?} needs a number: give one with --set-id"));
            }
            (_, Some(format), _) => {
                let time = jiff::fmt::strtime::format(format, now);
                filled.push_str(&time.map_err(|error| format!("{pattern:?}: {error}"))?);
            }
            _ => {
                return Err(format!(
                    "{pattern:?}: {{{word}}} is none of {{host}}, {{profile}}, {{id}}, {{time:FORMAT}}"
                ));
            }
        }
        rest = &behind[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_filled_in() {
        let now: Zoned = "2026-03-04T05:06:07+01:00[Europe/Berlin]".parse().unwrap();
        let fill = |pattern, id| fill(pattern, "h", "p", id, &now);
        assert_eq!(fill("{host}-{profile}-{id}", Some(7)).unwrap(), "h-p-7");
        assert_eq!(fill("a {time:%Y-%m-%d %H:%M} b", None).unwrap(), "a 2026-03-04 05:06 b");
        for wrong in ["{id}", "{", "{x}", "{time:%!}"] {
            assert!(fill(wrong, None).is_err(), "{wrong}");
        }
    }
}
