//! Notices, as the configuration has them sent.

use std::path::Path;

use super::context::Context;
use super::environment::variable;
use crate::config::Profile;
use crate::config::profile::Notify;
use crate::notify::{self, Event};
use crate::repository::{Result, now_ms};

/// Tells of an event whom a profile and the whole configuration name; what was sent is remembered beneath `directory`.
/// Who cannot be told is a warning.
pub fn send(context: &Context, directory: &Path, profile: &Profile, event: &Event) -> Result<()> {
    let general = context.configuration()?.file.notify.as_ref();
    let settings: Vec<&Notify> = general.into_iter().chain(&profile.settings.notify).collect();
    if settings.is_empty() {
        return Ok(());
    }
    let surroundings = notify::Surroundings {
        state_directory: directory,
        environment: &variable,
        journal: notify::JOURNAL.as_ref(),
        limits: notify::Limits::default(),
        now_ms: now_ms(),
    };
    for warning in notify::notify(&settings, event, &surroundings) {
        context.warn(&warning);
    }
    Ok(())
}
