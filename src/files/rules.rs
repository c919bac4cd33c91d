//! Exclude rules in the language of `.gitignore`, applied to absolute paths.
//! What happens to an excluded path is the walk's business.
//!
//! The last rule that matches a path decides. A leading `/` means the root of
//! the file system; every other pattern matches at any depth, also one with a
//! slash inside (in a `.gitignore` that one would be anchored to the file's
//! directory, and here there is none). A trailing `/` matches directories only,
//! `!` takes back what an earlier rule excluded; as in git, nothing can be
//! taken back beneath an excluded directory, since it is not entered.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// How often, in all, earlier rules are asked whether they match as well. It
/// keeps thousands of rules on a million files from costing minutes; past it a
/// rule counts as used only where it decides.
const MAX_SECOND_LOOKS: u32 = 500_000;

/// What is wrong with exclude rules.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    #[error("exclude pattern {pattern:?} from {origin} is not valid: {reason}")]
    Pattern { pattern: String, origin: String, reason: String },
    #[error("cannot read the exclude file {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
}

/// A compiled list of rules that remembers which of them were ever of use.
#[derive(Debug)]
pub struct Rules {
    matcher: Gitignore,
    rules: Vec<Rule>,
    second_looks: AtomicU32,
}

#[derive(Debug)]
struct Rule {
    text: String,
    alone: Gitignore,
    used: AtomicBool,
}

impl Rules {
    /// Compiles the rules of `files`, in order, then `patterns`, so that what
    /// was typed overrides what lies in files. Empty lines and lines that start
    /// with `#` are comments in files; a typed pattern is never a comment, and
    /// an empty one is an error.
    pub fn new(patterns: &[String], files: &[PathBuf]) -> Result<Rules, RuleError> {
        let mut rules = Vec::new();
        let mut all = builder();
        for path in files {
            let content = read_lines(path)?;
            for (position, line) in content.lines().enumerate() {
                if line.trim_end().is_empty() || line.starts_with('#') {
                    continue;
                }
                let origin = || format!("{} line {}", path.display(), position + 1);
                add(&mut all, &mut rules, line.to_owned(), line, origin)?;
            }
        }
        for pattern in patterns {
            let escaped =
                if pattern.starts_with('#') { format!("\\{pattern}") } else { pattern.clone() };
            add(&mut all, &mut rules, pattern.clone(), &escaped, || {
                "the command line or profile".to_owned()
            })?;
        }
        let matcher = all.build().map_err(|error| RuleError::Pattern {
            pattern: String::new(),
            origin: "all rules together".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Rules { matcher, rules, second_looks: AtomicU32::new(0) })
    }

    /// Whether the rules leave out this absolute path. They are not asked about
    /// the directories above it: the walk asks about those first.
    pub fn exclude(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        let (glob, excluded) = match self.matcher.matched(path, is_directory) {
            Match::None => return false,
            Match::Ignore(glob) => (glob, true),
            Match::Whitelist(glob) => (glob, false),
        };
        if let Some(number) = glob.from().and_then(rule_number) {
            self.note_use(number, path, is_directory);
        }
        excluded
    }

    /// The patterns that matched nothing so far, as they were written.
    pub fn unused(&self) -> Vec<String> {
        let unused = self.rules.iter().filter(|rule| !rule.used.load(Ordering::Relaxed));
        unused.map(|rule| rule.text.clone()).collect()
    }

    /// Later rules did not match, or one of them would have decided; earlier ones may have.
    fn note_use(&self, decided: usize, path: &Path, is_directory: bool) {
        let Some(rule) = self.rules.get(decided) else {
            return;
        };
        rule.used.store(true, Ordering::Relaxed);
        for earlier in &self.rules[..decided] {
            if earlier.used.load(Ordering::Relaxed) {
                continue;
            }
            if self.second_looks.fetch_add(1, Ordering::Relaxed) >= MAX_SECOND_LOOKS {
                self.second_looks.store(MAX_SECOND_LOOKS, Ordering::Relaxed);
                return;
            }
            if !earlier.alone.matched(path, is_directory).is_none() {
                earlier.used.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn builder() -> GitignoreBuilder {
    let mut builder = GitignoreBuilder::new("/");
    builder.allow_unclosed_class(false);
    builder
}

/// A glob carries its rule's number where the library keeps the name of the
/// file it came from: the only thing that survives from a line to its match.
fn rule_number(from: &Path) -> Option<usize> {
    from.to_str()?.parse().ok()
}

fn add(
    all: &mut GitignoreBuilder,
    rules: &mut Vec<Rule>,
    text: String,
    line: &str,
    origin: impl Fn() -> String,
) -> Result<(), RuleError> {
    let wrong =
        |reason: String| RuleError::Pattern { pattern: text.clone(), origin: origin(), reason };
    let line = unanchored(line);
    let number = PathBuf::from(rules.len().to_string());
    let mut single = builder();
    single.add_line(None, &line).map_err(|error| wrong(error.to_string()))?;
    let alone = single.build().map_err(|error| wrong(error.to_string()))?;
    if alone.is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    all.add_line(Some(number), &line).map_err(|error| wrong(error.to_string()))?;
    rules.push(Rule { text, alone, used: AtomicBool::new(false) });
    Ok(())
}

/// Lets a pattern with a slash inside, but not in front, match at any depth.
fn unanchored(line: &str) -> String {
    let (sign, pattern) = match line.strip_prefix('!') {
        Some(rest) => ("!", rest),
        None => ("", line),
    };
    let inner_slash = pattern.trim_end().trim_end_matches('/').contains('/');
    if inner_slash && !pattern.starts_with('/') && !pattern.starts_with("**/") {
        format!("{sign}**/{pattern}")
    } else {
        line.to_owned()
    }
}

fn read_lines(path: &Path) -> Result<String, RuleError> {
    let bytes =
        std::fs::read(path).map_err(|error| RuleError::File { path: path.to_owned(), error })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let reason = format!("line {line} is not UTF-8; write ? for each byte that is not");
        RuleError::File {
            path: path.to_owned(),
            error: io::Error::new(io::ErrorKind::InvalidData, reason),
        }
    })?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}
