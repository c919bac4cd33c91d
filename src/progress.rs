//! How operations tell what they are doing. The library prints nothing; whoever
//! runs an operation passes something that listens.

/// What may be told while an operation runs. Paths are raw bytes.
#[derive(Debug)]
pub enum Event<'a> {
    /// A new stage of the work, in a word or two.
    Stage(&'a str),
    /// So much more is known to lie ahead.
    Expect { files: u64, bytes: u64 },
    /// So much more is done.
    Done { files: u64, bytes: u64 },
    /// A file or source could not be processed; the work goes on.
    Failure { path: &'a [u8], reason: &'a str },
    /// Something worth knowing that is no failure.
    Note { path: &'a [u8], text: &'a str },
    /// Something about the repository that its owner should know.
    Warning(&'a str),
    /// A line that a command printed on its standard error; `name` is whose it is.
    Said { name: &'a str, line: &'a str },
    /// One line of a listing that was asked for.
    Line { kind: &'a str, path: &'a [u8], bytes: u64 },
}

pub trait Progress: Send + Sync {
    fn event(&self, event: Event<'_>);

    /// Asked often; an operation ends soon after it says yes.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Listens to nothing.
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}
