//! Commands of the user's around a run or a source.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::profile::{Hook, Hooks, OnFailure};
use crate::source::Environment;
use crate::source::process::{self, Deadline, Log, Program};

/// Of hooks that name none.
const TIMEOUT: Duration = Duration::from_secs(600);

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
    Success,
    Failure,
    Finally,
}

impl Moment {
    pub fn word(self) -> &'static str {
        match self {
            Moment::Before => "before",
            Moment::After => "after",
            Moment::Success => "success",
            Moment::Failure => "failure",
            Moment::Finally => "finally",
        }
    }

    fn of(self, hooks: &Hooks) -> &[Hook] {
        match self {
            Moment::Before => &hooks.before,
            Moment::After => &hooks.after,
            Moment::Success => &hooks.success,
            Moment::Failure => &hooks.failure,
            Moment::Finally => &hooks.finally,
        }
    }
}

/// What hooks are told, each as a variable `ESKER_…`.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub profile: String,
    pub host: String,
    /// Of hooks around a source.
    pub source: Option<String>,
    pub snapshot: Option<String>,
    /// `complete`, `partial`, `failed`; empty before the run.
    pub status: &'static str,
    pub exit_code: Option<u64>,
    pub bytes: u64,
    pub bytes_added: u64,
    pub error: Option<String>,
}

impl Facts {
    fn environment(&self, moment: Moment) -> Environment {
        let number = |number: u64| Some(number.to_string());
        [
            ("HOOK", Some(moment.word().to_owned())),
            ("PROFILE", Some(self.profile.clone())),
            ("HOST", Some(self.host.clone())),
            ("SOURCE", self.source.clone()),
            ("SNAPSHOT_ID", self.snapshot.clone()),
            ("STATUS", Some(self.status.to_owned())),
            ("EXIT_CODE", self.exit_code.and_then(number)),
            ("BYTES", number(self.bytes)),
            ("BYTES_ADDED", number(self.bytes_added)),
            ("ERROR", self.error.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((format!("ESKER_{name}"), Zeroizing::new(value?))))
        .collect()
    }
}

/// Runs the hooks of one moment, one after another. A failure whose hook says `fail` ends it; all that `warn` are given
/// to `warn`. `over` says whether to give up what comes before; what follows is done in any case, for it may start again
/// what was stopped. The hook's own output goes to `log`.
pub fn run(
    hooks: &Hooks,
    moment: Moment,
    facts: &Facts,
    log: &Log,
    over: &dyn Fn() -> bool,
    warn: &mut dyn FnMut(String),
) -> Result<(), String> {
    let over = || moment == Moment::Before && over();
    for hook in moment.of(hooks) {
        let program = Program {
            words: hook.run.words(),
            environment: facts.environment(moment),
            ..Program::default()
        };
        let limit = hook.timeout.map_or(TIMEOUT, |period| Duration::from_millis(period.ms));
        let deadline = Deadline::after(Some(limit));
        let ran = process::run(&program, deadline, log, &over);
        let told = ran.map_err(|message| format!("hook {}: {message}", moment.word()));
        match (told, hook.on_failure) {
            (Ok(()), _) | (Err(_), OnFailure::Ignore) => {}
            (Err(message), OnFailure::Warn) => warn(message),
            (Err(message), OnFailure::Fail) => return Err(message),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Command;

    fn hook(text: &str, on_failure: OnFailure) -> Hook {
        Hook { run: Command::Shell(text.to_owned()), timeout: None, on_failure }
    }

    fn before(hooks: Vec<Hook>) -> (Result<(), String>, Vec<String>) {
        let hooks = Hooks { before: hooks, ..Hooks::default() };
        let facts = Facts { profile: "web".into(), exit_code: Some(3), ..Facts::default() };
        let mut warnings = Vec::new();
        let mut warn = |text| warnings.push(text);
        let ran = run(&hooks, Moment::Before, &facts, &Log::default(), &|| false, &mut warn);
        (ran, warnings)
    }

    #[test]
    fn a_hook_is_told_of_the_run_and_its_failure_counts_as_it_says() {
        let told = r#"test "$ESKER_PROFILE/$ESKER_HOOK/$ESKER_EXIT_CODE" = web/before/3"#;
        assert_eq!(before(vec![hook(told, OnFailure::Fail)]), (Ok(()), Vec::new()));
        let (ran, warnings) = before(vec![
            hook("exit 1", OnFailure::Ignore),
            hook("exit 2", OnFailure::Warn),
            hook("echo broken >&2; exit 3", OnFailure::Fail),
            hook("exit 4", OnFailure::Warn),
        ]);
        assert_eq!(warnings.len(), 1);
        assert!(ran.unwrap_err().contains("broken"));
    }

    #[test]
    fn a_hook_that_takes_too_long_is_ended() {
        let slow = Hook {
            timeout: Some(crate::config::value::Period { ms: 200 }),
            ..hook("sleep 60", OnFailure::Fail)
        };
        let began = std::time::Instant::now();
        assert!(before(vec![slow]).0.is_err());
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
