//! The program in a home of its own: nothing of the machine's configuration is seen, and there is no terminal.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// It is run in `home`, with nothing on its standard input. Its pid is the program's: `setsid` becomes it.
pub fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/setsid");
    command
        .args(["-w", env!("CARGO_BIN_EXE_esker")])
        .args(arguments)
        .current_dir(home)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    command
}

/// What came of it.
pub struct Run {
    pub code: i32,
    /// Standard output, as it is and as text.
    pub bytes: Vec<u8>,
    pub out: String,
    pub err: String,
}

impl Run {
    /// Of a command that prints text.
    pub fn of(output: Output) -> Run {
        assert!(std::str::from_utf8(&output.stdout).is_ok(), "{output:?}");
        Run::of_bytes(output)
    }

    /// Of a command that may print what is no text.
    pub fn of_bytes(output: Output) -> Run {
        Run {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            bytes: output.stdout,
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Standard output as JSON: an object a line, each with its type.
    pub fn json(&self) -> Vec<Value> {
        let parse = |line: &str| -> Value { serde_json::from_str(line).expect(line) };
        let text = std::str::from_utf8(&self.bytes).unwrap();
        let objects: Vec<Value> = text.lines().map(parse).collect();
        assert!(objects.iter().all(|object| object["type"].is_string()), "{}", self.out);
        objects
    }

    pub fn of_type(&self, kind: &str) -> Vec<Value> {
        self.json().into_iter().filter(|object| object["type"] == kind).collect()
    }

    pub fn last(&self) -> Value {
        self.json().pop().expect("an object")
    }
}
