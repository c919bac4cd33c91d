//! Commands that run elsewhere: `kubectl exec -i pod --` and its like in front of them.
//!
//! Such a carrier was seen to end with 0 after half a stream. So the command is wrapped, on the other side, in a few
//! lines for any POSIX shell that add a *frame* to what it prints: its exit status, and the SHA-256 of all of it (where
//! there is no `sha256sum`: CRC and length by `cksum`, or at least the length by `wc`). The stream passes through pipes
//! only; nothing is stored there. The frame is taken off here, and must be right.
//!
//! Variables, which may be secrets, go as the first lines of standard input: an argument could be seen by others.

use std::io::{self, ErrorKind, Read};

use ring::digest;
use zeroize::Zeroizing;

use super::process::Program;
use super::{Environment, usage};
use crate::repository::Result;

/// A line of input for each name in front of `--`, then the command.
const VARIABLES: &str = r#"while [ "$1" != -- ]; do IFS= read -r esker || exit 125; export "$1=$esker"; shift; done; shift; unset esker
"#;
const RUN: &str = r#"exec "$@"
"#;
/// Behind `tee` lies a pipe of our own: what a carrier gives as standard output cannot always be opened by its number.
const RUN_FRAMED: &str = r#"if command -v sha256sum >/dev/null 2>&1; then s=sha256sum; elif command -v cksum >/dev/null 2>&1; then s=cksum; else s='wc -c'; fi
{ t=$( { { "$@" </dev/null 3>&- 4>&-; printf '%s ' "$?" >&4; } | tee /dev/fd/3 | $s; } 4>&1 ); printf '\nesker-end %s %s\n' "${s% *}" "$t"; } 3>&1 | cat
"#;
const FRAME: &[u8] = b"\nesker-end ";
/// No frame is longer.
const MAX_FRAME: usize = 256;

/// Wraps a command for a carrier. Without carrier words, the command stays as it is. `reads` is whether it is to read
/// standard input itself: then what it prints has no frame.
pub fn wrap(carrier: &[String], words: &[String], variables: &Environment, reads: bool) -> Program {
    if carrier.is_empty() {
        let (words, environment) = (words.to_vec(), variables.clone());
        return Program { words, environment, ..Program::default() };
    }
    let script = format!("{VARIABLES}{}", if reads { RUN } else { RUN_FRAMED });
    let mut there: Vec<String> = ["sh", "-c", &script, "esker"].map(str::to_owned).to_vec();
    there.extend(variables.iter().map(|(name, _)| name.clone()));
    there.push("--".to_owned());
    there.extend(words.iter().cloned());
    if rejoins(carrier) {
        there = vec![there.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")];
    }
    let mut input = Zeroizing::new(Vec::new());
    for (_, value) in variables {
        input.extend_from_slice(value.as_bytes());
        input.push(b'\n');
    }
    let words = carrier.iter().cloned().chain(there).collect();
    Program { words, environment: Environment::new(), input, framed: !reads }
}

/// ssh gives its arguments, joined by blanks, to a shell on the other side.
fn rejoins(carrier: &[String]) -> bool {
    carrier.first().is_some_and(|program| program.rsplit('/').next() == Some("ssh"))
}

/// A word as any POSIX shell reads it.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What is known to go wrong with a carrier.
pub fn check(carrier: &[String], variables: &Environment) -> Result<()> {
    let options = carrier.iter().take_while(|word| *word != "--");
    let terminal = |word: &&String| {
        let word = word.as_str();
        word == "--tty" || word == "--tty=true" || matches!(word, "-t" | "-it" | "-ti")
    };
    let container = carrier.first().and_then(|program| program.rsplit('/').next());
    if matches!(container, Some("kubectl" | "oc" | "docker" | "podman" | "nerdctl"))
        && let Some(option) = options.clone().find(terminal)
    {
        return Err(usage(format!(
            "through: {option} makes a terminal, which alters streams: write -i"
        )));
    }
    if !carrier.is_empty() && variables.iter().any(|(_, value)| value.contains(['\n', '\0'])) {
        return Err(usage("a password with a line feed cannot go through another command"));
    }
    Ok(())
}

/// Takes the frame off a stream. A frame that is not there, or not right, is an error of `ErrorKind::UnexpectedEof` at
/// the end of the stream, and [`verdict`](Framed::verdict) says what is wrong.
pub struct Framed<'a> {
    reader: &'a mut dyn Read,
    framed: bool,
    /// Read, and not yet given: the frame may be in it.
    held: Vec<u8>,
    /// How much of `held` has been given.
    given: usize,
    sum: digest::Context,
    crc: Cksum,
    length: u64,
    verdict: Option<std::result::Result<(), String>>,
}

impl<'a> Framed<'a> {
    pub fn new(reader: &'a mut dyn Read, framed: bool) -> Framed<'a> {
        Framed {
            reader,
            framed,
            held: Vec::new(),
            given: 0,
            sum: digest::Context::new(&digest::SHA256),
            crc: Cksum::default(),
            length: 0,
            verdict: None,
        }
    }

    /// What the frame proved, once the stream has ended.
    pub fn verdict(self) -> std::result::Result<(), String> {
        match self.verdict {
            Some(verdict) => verdict,
            None if self.framed => Err("the stream was not read to its end".into()),
            None => Ok(()),
        }
    }

    /// Reads on until there is something to give, or the end.
    fn fill(&mut self) -> io::Result<()> {
        while self.verdict.is_none() && self.held.len() - self.given <= MAX_FRAME {
            self.held.drain(..self.given);
            self.given = 0;
            let kept = self.held.len();
            self.held.resize(kept + (64 << 10), 0);
            let read = self.reader.read(&mut self.held[kept..]);
            self.held.truncate(kept + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                self.end();
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        let start = self.held.windows(FRAME.len()).rposition(|window| window == FRAME);
        let frame = start.map(|start| self.held.split_off(start));
        self.note(0, self.held.len());
        self.verdict = Some(match frame {
            None => Err("the stream is cut off: what was to follow it is not there".into()),
            Some(frame) => self.judge(&frame[FRAME.len()..]),
        });
    }

    /// Counts what is about to be given.
    fn note(&mut self, from: usize, to: usize) {
        let bytes = &self.held[from..to];
        self.sum.update(bytes);
        self.crc.update(bytes);
        self.length += bytes.len() as u64;
    }

    fn judge(&self, frame: &[u8]) -> std::result::Result<(), String> {
        let text = std::str::from_utf8(frame).unwrap_or_default();
        let Some(line) = text.strip_suffix('\n') else {
            return Err("the stream is cut off within what follows it".into());
        };
        let mut words = line.split_whitespace();
        let (method, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let numbers: Vec<&str> = words.collect();
        let length = self.length.to_string();
        let right = match (method, numbers.as_slice()) {
            ("sha256sum", [sum, ..]) => *sum == hex(self.sum.clone().finish().as_ref()),
            ("cksum", [crc, bytes, ..]) => {
                *crc == self.crc.sum(self.length).to_string() && *bytes == length
            }
            ("wc", [bytes]) => *bytes == length,
            _ => false,
        };
        match status.parse::<u8>() {
            Ok(0) if right => Ok(()),
            Ok(0) => {
                Err("the stream arrived otherwise than it was sent: its checksum differs".into())
            }
            Ok(status) => Err(format!("ended there with exit status {status}")),
            Err(_) => Err("what follows the stream makes no sense".into()),
        }
    }
}

impl Read for Framed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.framed {
            return self.reader.read(buffer);
        }
        self.fill()?;
        let ended = self.verdict.is_some();
        let ready = self.held.len() - self.given - if ended { 0 } else { MAX_FRAME };
        if ready == 0 {
            return match &self.verdict {
                Some(Err(message)) => {
                    Err(io::Error::new(ErrorKind::UnexpectedEof, message.clone()))
                }
                _ => Ok(0),
            };
        }
        let count = ready.min(buffer.len());
        let (from, to) = (self.given, self.given + count);
        if !ended {
            self.note(from, to);
        }
        buffer[..count].copy_from_slice(&self.held[from..to]);
        self.given = to;
        Ok(count)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The CRC of the POSIX utility `cksum`.
#[derive(Default)]
struct Cksum(u32);

impl Cksum {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let mut value = (n as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                value = (value << 1) ^ if value >> 31 == 1 { 0x04C1_1DB7 } else { 0 };
                bit += 1;
            }
            table[n] = value;
            n += 1;
        }
        table
    };

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) ^ Self::TABLE[usize::from((self.0 >> 24) as u8 ^ byte)];
        }
    }

    /// The length counts, too: as few bytes as it needs, the lowest first.
    fn sum(&self, length: u64) -> u32 {
        let mut with_length = Cksum(self.0);
        let mut rest = length;
        while rest != 0 {
            with_length.update(&[rest as u8]);
            rest >>= 8;
        }
        !with_length.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that gives few bytes at a time, and is interrupted between them.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = self.0.len().min(buffer.len()).min(99);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn unframe(stream: &[u8]) -> (Vec<u8>, std::result::Result<(), String>) {
        let mut slow = Slow(stream, false);
        let mut framed = Framed::new(&mut slow, true);
        let mut bytes = Vec::new();
        let read = framed.read_to_end(&mut bytes);
        let verdict = framed.verdict();
        assert_eq!(read.is_ok(), verdict.is_ok());
        (bytes, verdict)
    }

    fn shell(path: &str, command: &str) -> Vec<u8> {
        let carrier = ["env".to_owned(), format!("PATH={path}")];
        let words = ["/bin/sh", "-c", command].map(str::to_owned);
        let program = wrap(&carrier, &words, &Environment::new(), false);
        let mut child = std::process::Command::new("/usr/bin/env");
        child.args(&program.words[1..]);
        child.output().unwrap().stdout
    }

    #[test]
    fn what_a_shell_framed_is_taken_apart_and_every_cut_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path();
        for tool in ["sh", "tee", "cat", "cksum", "wc"] {
            let found = ["/usr/bin", "/bin"].map(|place| std::path::Path::new(place).join(tool));
            let found = found.iter().find(|path| path.exists()).unwrap();
            std::os::unix::fs::symlink(found, bin.join(tool)).unwrap();
        }
        let without_sha = bin.to_str().unwrap().to_owned();
        let mut plain = b"line\n".repeat(1000);
        plain.extend_from_slice(b"and an end without line feed");
        let file = bin.join("plain");
        std::fs::write(&file, &plain).unwrap();
        for path in ["/usr/bin:/bin", &without_sha] {
            let framed = shell(path, &format!("exec cat {}", file.display()));
            let (bytes, verdict) = unframe(&framed);
            assert_eq!(verdict, Ok(()), "{path}");
            assert!(bytes == plain);
            for cut in [0, plain.len() / 2, plain.len(), framed.len() - 1] {
                assert!(unframe(&framed[..cut]).1.is_err(), "{path}, cut at {cut}");
            }
            let mut altered = framed.clone();
            altered[7] ^= 1;
            assert!(unframe(&altered).1.unwrap_err().contains("checksum"));
        }
        let (bytes, verdict) = unframe(&shell("/usr/bin:/bin", "printf half; exit 3"));
        assert_eq!(
            (bytes.as_slice(), verdict),
            (&b"half"[..], Err("ended there with exit status 3".into()))
        );
        assert_eq!(unframe(&shell("/usr/bin:/bin", ":")).1, Ok(()));
    }

    #[test]
    fn variables_go_through_standard_input_only() {
        let variables =
            vec![("SECRET".to_owned(), Zeroizing::new("it's \"$HOME\" \\n".to_owned()))];
        let words = ["printenv", "SECRET"].map(str::to_owned);
        for carrier in [vec!["env".to_owned()], vec!["./ssh".to_owned()]] {
            let program = wrap(&carrier, &words, &variables, false);
            assert!(program.words.iter().all(|word| !word.contains("it's")));
            let mut child = match carrier[0].as_str() {
                // as sshd does with what it is told
                "./ssh" => {
                    let mut child = std::process::Command::new("sh");
                    child.args(["-c", &program.words[1]]);
                    child
                }
                _ => {
                    let mut child = std::process::Command::new("env");
                    child.args(&program.words[1..]);
                    child
                }
            };
            let mut child = child
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            io::Write::write_all(&mut child.stdin.take().unwrap(), &program.input).unwrap();
            let (bytes, verdict) = unframe(&child.wait_with_output().unwrap().stdout);
            assert_eq!(
                (String::from_utf8(bytes).unwrap().as_str(), verdict),
                ("it's \"$HOME\" \\n\n", Ok(()))
            );
        }
    }
}
