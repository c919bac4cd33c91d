//! Ctrl-C and its like: the first asks for an orderly end, the second ends at once.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::exit::Exit;

static RAISED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The flag that [`listen`] has raised: nobody waits for a store any longer then.
pub fn raised() -> Arc<AtomicBool> {
    Arc::clone(&RAISED)
}

/// A flag that is raised by the first signal. Signals that whoever started us
/// had ignored (`nohup`, a shell's background job) stay ignored.
pub fn listen() -> Arc<AtomicBool> {
    let raised = raised();
    let ignored = ignored_signals();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if ignored & (1 << (signal - 1)) != 0 {
            continue;
        }
        // The order matters: a signal ends the program only if one came before.
        let code = i32::from(Exit::Interrupted.code());
        let _ = flag::register_conditional_shutdown(signal, code, Arc::clone(&raised));
        let _ = flag::register(signal, Arc::clone(&raised));
    }
    raised
}

/// A bit for each ignored signal, where the system tells.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
