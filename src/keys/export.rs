//! `key export`: a sheet of paper that is enough to get the data back.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use zeroize::Zeroizing;

use super::file::key_text;
use crate::crypto::SecretKey;
use crate::repository::local::CacheRoot;
use crate::repository::{Error, ErrorKind, Repository, Result, Unlock};

/// What the sheet says of the key.
pub enum SheetKey {
    /// The key itself: whoever has the sheet has the data.
    KeyFile(SecretKey),
    /// Where the key or password is kept, in the owner's words; never the
    /// password itself. Empty leaves a line to write on.
    KeptAt(String),
}

/// Wiped on drop: it may hold a key.
pub struct RecoverySheet {
    pub text: Zeroizing<String>,
    /// What the QR code holds: URL, repository id, key or where it is.
    pub payload: Zeroizing<String>,
    /// The QR code in half-block characters, dark on light.
    pub qr: Zeroizing<String>,
}

/// Makes the sheet for `repository` as it is reached at `url`. Needs a key that
/// can restore, and refuses one on the sheet that does not open the repository.
pub fn export(repository: &Repository, key: &SheetKey, url: &str) -> Result<RecoverySheet> {
    repository.keyring().require_read()?;
    let id = repository.id();
    let admin = crate::id::hex(&repository.keyring().admin.0);
    let (kept, use_key) = match key {
        SheetKey::KeyFile(secret) => {
            check_opens(repository, secret)?;
            let text = key_text(secret);
            let line = Zeroizing::new(text.trim_end().to_owned());
            (line, "put the line above into a file and name it: export ESKER_KEY_FILE=FILE")
        }
        SheetKey::KeptAt(place) => {
            let place = if place.is_empty() { "____________________________" } else { place };
            let line = Zeroizing::new(format!("kept at: {place}"));
            (line, "esker asks for the password; for a key file: export ESKER_KEY_FILE=FILE")
        }
    };
    let text = Zeroizing::new(format!(
        "ESKER RECOVERY SHEET\n\n\
         repository   {url}\n\
         id           {id}\n\
         admin key    {admin}\n\
         key          {}\n\n\
         To get the data back on any machine with esker and access to the store:\n\
         ({use_key})\n\n  \
         esker -r '{url}' snapshots\n  \
         esker -r '{url}' restore latest ./restored\n",
        *kept
    ));
    let payload = Zeroizing::new(format!("ESKER-RECOVERY-1\n{url}\n{id}\n{}\n", *kept));
    let qr = Zeroizing::new(qr_code(&payload)?);
    Ok(RecoverySheet { text, payload, qr })
}

fn check_opens(repository: &Repository, key: &SecretKey) -> Result<()> {
    let unlock = Unlock::KeyFile(key.clone());
    let store = repository.store().clone();
    let opened = Repository::open(store, &unlock, &CacheRoot::None)?;
    if opened.id() != repository.id() {
        return Err(Error::new(ErrorKind::NoRepository, "the key opens another repository"));
    }
    opened.keyring().require_read()
}

fn qr_code(payload: &str) -> Result<String> {
    let code = QrCode::with_error_correction_level(payload, EcLevel::M).map_err(|_| {
        Error::new(ErrorKind::Usage, "the address is too long for a QR code: use a shorter one")
    })?;
    Ok(code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Dark)
        .light_color(Dense1x2::Light)
        .quiet_zone(true)
        .build())
}
