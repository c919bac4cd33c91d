//! What is found wrong with a configuration, and where it stands.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub file: Arc<Path>,
    /// from 1
    pub line: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file.display(), self.line)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something does not work as it is written.
    Error,
    /// It works, and its owner should know.
    Warning,
}

/// One sentence about one line, without the line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub at: At,
    pub severity: Severity,
    pub sentence: String,
}

impl Finding {
    pub fn error(at: &At, sentence: impl Into<String>) -> Finding {
        Finding { at: at.clone(), severity: Severity::Error, sentence: sentence.into() }
    }

    pub fn warning(at: &At, sentence: impl Into<String>) -> Finding {
        Finding { at: at.clone(), severity: Severity::Warning, sentence: sentence.into() }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.sentence)
    }
}

/// In the order of files and lines, each once: what is wrong with a profile is
/// also wrong with all that extend it.
pub fn tidy(findings: &mut Vec<Finding>) {
    findings.sort();
    findings.dedup();
}

/// The candidate that somebody who wrote `word` most likely meant, if any is near.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
    let near = candidates.into_iter().map(|candidate| (distance(candidate), candidate));
    let allowed = (word.chars().count() / 3).max(2);
    near.filter(|(distance, _)| *distance <= allowed).min_by_key(|near| near.0).map(|near| near.1)
}

/// `a`, `a or b`, `a, b or c`
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let words = ["repository", "repositories", "key_file", "tags"];
        assert_eq!(nearest("repositry", words), Some("repository"));
        assert_eq!(nearest("Key_Fiel", words), Some("key_file"));
        assert_eq!(nearest("tag", words), Some("tags"));
        assert_eq!(nearest("elephants", words), None);
    }

    #[test]
    fn words_are_listed() {
        assert_eq!(one_of(["a"]), "a");
        assert_eq!(one_of(["a", "b", "c"]), "a, b or c");
    }
}
