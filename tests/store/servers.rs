//! A store on a real server: `tests/stores/conformance.sh` starts one after the other and names it here.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use esker::store::address::{Address, Service};
use esker::store::{Limits, OpendalStore, Patient, Secrets, Store, connect};

use crate::conformance::{Races, conformance};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What `esker` itself would read of the environment.
fn secrets(service: Service) -> Secrets {
    let password = match service {
        Service::Ftp | Service::Ftps => variable("ESKER_FTP_PASSWORD"),
        Service::Webdav | Service::WebdavHttp => variable("ESKER_WEBDAV_PASSWORD"),
        _ => None,
    };
    Secrets {
        password: password.map(Into::into),
        account: variable("AZURE_STORAGE_ACCOUNT"),
        account_key: variable("AZURE_STORAGE_KEY").map(Into::into),
        ..Secrets::default()
    }
}

/// The store that ESKER_TEST_STORE names; one in memory where nobody started a server.
#[test]
fn the_named_store_conforms() {
    let store: Arc<dyn Store> = match variable("ESKER_TEST_STORE") {
        Some(url) => {
            let address = Address::parse(&url).expect("an address");
            let secrets = secrets(address.service);
            connect(&address, &secrets, Arc::new(Limits::default()), None).expect("connect")
        }
        None => Arc::new(OpendalStore::memory().expect("memory")),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let patient = Patient::new(store, Duration::from_secs(60), stop, Box::new(|_, _| {}));
    // docs/stores.md says of which stores that is not to be expected
    let races = match variable("ESKER_TEST_RACES").as_deref() {
        Some("lost") => Races::MayReplace,
        _ => Races::OneWins,
    };
    conformance(&patient, races);
}
