//! The steps that bring a snapshot to the standby: those of its profile, led elsewhere
//! where the standby says so, and never over what it keeps.

use std::path::Path;

use super::keep::Keep;
use crate::config::profile::{ProfileSettings, Source, Standby};
use crate::repository::snapshots::Snapshot;
use crate::repository::{Error, Repository, Result};
use crate::source::Surroundings;
use crate::wayback::profile::{steps_of_profile, stored_name};
use crate::wayback::{self, WayBack, What, Why};

/// Who says how sources are put back.
pub struct Profiles<'a> {
    /// The standby's own profile: its sources count first.
    pub own: &'a ProfileSettings,
    /// The profile that travels in the snapshot.
    pub travelled: Option<&'a ProfileSettings>,
}

impl Profiles<'_> {
    /// The sources, each as the standby names it, or else as the snapshot does.
    fn sources(&self) -> Vec<Source> {
        let travelled = self.travelled.map(|settings| settings.sources.clone());
        let mut sources = travelled.unwrap_or_default();
        for own in &self.own.sources {
            let same = sources.iter_mut().find(|source| stored_name(source) == stored_name(own));
            match same {
                Some(source) => *source = own.clone(),
                None => sources.push(own.clone()),
            }
        }
        sources
    }
}

/// The steps of the way back to a standby. `keep` is left out of whatever is written,
/// and with `delete` of what goes.
pub fn way_back<'a>(
    repository: &Repository,
    snapshot: &'a Snapshot,
    standby: &Standby,
    profiles: &Profiles<'_>,
    keep: &Keep,
    surroundings: &Surroundings<'_>,
) -> Result<WayBack<'a>> {
    let root = standby.target.as_deref().unwrap_or(Path::new("/"));
    let sources = profiles.sources();
    let mut way_back = match sources.is_empty() {
        // taken without a profile
        true => wayback::steps(repository, snapshot, root, &|_| Ok(Vec::new()))?,
        false => {
            let settings = ProfileSettings { sources, ..ProfileSettings::default() };
            steps_of_profile(repository, snapshot, &settings, root, surroundings)?
        }
    };
    if let Some(wanted) = &standby.sources
        && let Some(missing) = way_back.only(wanted).first()
    {
        let id = &snapshot.id.to_hex()[..8];
        let message = format!("snapshot {id} has no source {missing}: nothing was touched");
        return Err(Error::failed(message));
    }
    // A complete snapshot may lack what is not required. There is nothing of it that could be brought here, and what the
    // standby has of it stays: to wait for it would keep the standby behind with all the rest.
    way_back.left.retain(|left| left.why != Why::NotSaved);
    for step in &mut way_back.steps {
        if let What::Files(options) = &mut step.what {
            let key = options.path.as_deref();
            options.exclude = Some(keep.rules(repository, snapshot, key, &options.target)?);
            // what a preset puts into a directory of a server is not all that belongs there
            options.delete = standby.delete && key.is_none();
        }
    }
    Ok(way_back)
}
