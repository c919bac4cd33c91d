//! A CronJob of Kubernetes for each expression of a profile: `batch/v1`. What
//! the containers find: the configuration in the secret `esker`, the cache in
//! the volume claim `esker-cache`, credentials in the secret `esker-credentials`.
//!
//! A run that ends with 3 or 75 is a failed Job; none is started again before
//! its next time.
//!
//! A pod has another name each night, and snapshots are of a host: so pods of a
//! profile that names none share one, or each night would be a new host's.

use jiff::{Timestamp, ToSpan};
use serde_json::Value;

use crate::id::hex;
use crate::repository::Result;
use crate::schedule::calendar::{Calendar, Syntax};
use crate::schedule::{Job, usage};

/// Where names of CronJobs end, as Jobs append to them.
const MAX_NAME_BYTES: usize = 52;
/// Within this a missed run is made up for. Kubernetes gives up on a schedule
/// that missed a hundred times in it.
const CATCH_UP_SECONDS: u32 = 24 * 3600;
const ON_TIME_SECONDS: u32 = 600;

/// The documents as YAML, and what their owner should know. `now` is when they are written: nights are looked for ten
/// years from then.
pub fn cron_jobs(job: &Job, image: &str, now: Timestamp) -> Result<(String, Vec<String>)> {
    if job.expressions.is_empty() {
        return Err(usage(&job.profile, "it has no schedule"));
    }
    if image.is_empty() || image.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(usage(&job.profile, &format!("{image:?} is no image of a container")));
    }
    let several = job.expressions.len() > 1;
    let documents = job.expressions.iter().enumerate().map(|(number, expression)| {
        let suffix = if several { format!("-{}", number + 1) } else { String::new() };
        document(job, expression, image, &suffix, now)
    });
    let text = documents.collect::<Result<Vec<_>>>()?.join("---\n");
    let skipped = job.expressions.iter().filter_map(|expression| {
        let sentence = skipped(expression, now)?;
        Some(format!("profile {}: schedule {:?}: {sentence}", job.profile, expression.text()))
    });
    Ok((text, skipped.collect()))
}

/// Kubernetes drops a time that a change of clocks skips, the whole night of a daily backup, and cron's syntax has no
/// years in which to name it.
fn skipped(expression: &Calendar, now: Timestamp) -> Option<String> {
    let years = (10 * 366 * 24).hours();
    let until = now.checked_add(years).unwrap_or(Timestamp::MAX);
    let first = *expression.moved(now, until).first()?;
    let first = expression.zone().to_datetime(first).date();
    Some(format!(
        "Kubernetes leaves out the nights in which clocks are set forward over it, the next on {first}: choose another \
         time, or run \"esker schedule run\" in a container of its own"
    ))
}

fn document(
    job: &Job,
    expression: &Calendar,
    image: &str,
    suffix: &str,
    now: Timestamp,
) -> Result<String> {
    let schedule = quoted(&fields(job, expression)?);
    let name = name(&job.profile, suffix);
    let zone = expression.zone().iana_name();
    let zone = zone.map_or_else(String::new, |zone| format!("  timeZone: {}\n", quoted(zone)));
    let warning = skipped(expression, now);
    let warning = warning.map_or_else(String::new, |sentence| format!("# {sentence}\n"));
    // of all jobs of the profile one: without what tells them apart
    let host = match job.host {
        Some(_) => String::new(),
        None => format!("          hostname: {}\n", self::name(&job.profile, "")),
    };
    let deadline = if job.catch_up { CATCH_UP_SECONDS } else { ON_TIME_SECONDS };
    let (profile, image) = (quoted(&job.profile), quoted(image));
    let (variable, mount, volume) = match job.credentials.is_empty() {
        true => ("", "", ""),
        false => (CREDENTIALS_VARIABLE, CREDENTIALS_MOUNT, CREDENTIALS_VOLUME),
    };
    Ok(format!(
        "\
# {mark}
{warning}apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
spec:
  schedule: {schedule}
{zone}  concurrencyPolicy: Forbid
  startingDeadlineSeconds: {deadline}
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
{host}          restartPolicy: Never
          containers:
            - name: esker
              image: {image}
              command: [\"esker\", \"run\", {profile}, \"--scheduled\"]
              env:
                - name: ESKER_CONFIG
                  value: /etc/esker/esker.toml
                - name: ESKER_CACHE_DIR
                  value: /var/cache/esker
{variable}              volumeMounts:
                - name: configuration
                  mountPath: /etc/esker
                  readOnly: true
                - name: cache
                  mountPath: /var/cache/esker
{mount}          volumes:
            - name: configuration
              secret:
                secretName: esker
            - name: cache
              persistentVolumeClaim:
                claimName: esker-cache
{volume}",
        mark = expression.text(),
    ))
}

const CREDENTIALS_VARIABLE: &str = "                - name: CREDENTIALS_DIRECTORY
                  value: /run/credentials/esker
";
const CREDENTIALS_MOUNT: &str = "                - name: credentials
                  mountPath: /run/credentials/esker
                  readOnly: true
";
const CREDENTIALS_VOLUME: &str = "            - name: credentials
              secret:
                secretName: esker-credentials
";

fn fields(job: &Job, expression: &Calendar) -> Result<String> {
    let refused = |reason: &str| {
        let instead = "run \"esker schedule run\" in a container of its own instead";
        let text = expression.text();
        usage(&job.profile, &format!("schedule {text:?}: {reason}; {instead}"))
    };
    let line = expression.cron_line().map_err(|reason| refused(&reason))?;
    let field = |number: usize| line.split(' ').nth(number).unwrap_or("*");
    let (day, weekday) = (field(2), field(4));
    // Vixie's cron has such a day match both, the cron of Kubernetes either
    let stepped = |field: &str| field.starts_with("*/");
    let restricted = |field: &str| field != "*";
    let unclear = stepped(day) && restricted(weekday) || stepped(weekday) && restricted(day);
    if expression.syntax() == Syntax::Cron && unclear {
        return Err(refused(
            "Kubernetes takes a step in one field of days beside the other otherwise",
        ));
    }
    Ok(line)
}

/// Lower-case letters, digits and `-`; with a hash where that loses something.
fn name(profile: &str, suffix: &str) -> String {
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let room = MAX_NAME_BYTES - "esker-".len() - suffix.len();
    let name: String = profile.chars().map(plain).collect();
    if name == profile && name.len() <= room && !name.ends_with('-') {
        return format!("esker-{name}{suffix}");
    }
    let hash = hex(&blake3::hash(profile.as_bytes()).as_bytes()[..4]);
    let short: String = name.chars().take(room.saturating_sub(hash.len() + 1)).collect();
    format!("esker-{short}-{hash}{suffix}")
}

/// JSON's texts are YAML's, too.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn written(profile: &str, settings: &str) -> Result<String> {
        let job = Job::of(profile, &toml::from_str(settings).unwrap(), &TimeZone::UTC).unwrap();
        Ok(cron_jobs(&job, "registry/esker:1", now())?.0)
    }

    fn now() -> Timestamp {
        "2026-11-28T12:00:00Z".parse().unwrap()
    }

    /// A pod's own name is another each night.
    #[test]
    fn all_pods_of_a_profile_are_one_host() {
        let check = |profile: &str, host: &str| {
            let text = written(profile, "schedule = ['02:30', '14:00']").unwrap();
            assert_eq!(
                text.matches(&format!("\n          hostname: {host}\n")).count(),
                2,
                "{text}"
            );
            assert!(host.len() <= 63 && !host.ends_with('-'), "{host}");
        };
        check("web", "esker-web");
        check("Web", &name("Web", ""));
        check(&"x".repeat(90), &name(&"x".repeat(90), ""));
        let named = written("web", "schedule = ['02:30']\nhost = 'web1'").unwrap();
        assert!(!named.contains("hostname"), "{named}");
    }

    #[test]
    fn nights_that_kubernetes_leaves_out_are_told() {
        let told = |settings: &str| {
            let job = Job::of("web", &toml::from_str(settings).unwrap(), &TimeZone::UTC).unwrap();
            cron_jobs(&job, "registry/esker:1", now()).unwrap()
        };
        let (text, warnings) = told("schedule = ['02:30', '14:00']\nzone = 'Europe/Berlin'");
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("profile web: schedule \"02:30\": "), "{warnings:?}");
        assert!(warnings[0].contains("2027-03-28") && warnings[0].contains("esker schedule run"));
        let commented: Vec<&str> = text.lines().filter(|l| l.starts_with("# Kubernetes")).collect();
        assert!(commented.len() == 1 && commented[0].contains("2027-03-28"), "{text}");
        for settings in
            ["schedule = ['02:30']", "schedule = ['*:0/15', '03:00']\nzone = 'Europe/Berlin'"]
        {
            let (text, warnings) = told(settings);
            assert!(warnings.is_empty() && !text.contains("# Kubernetes"), "{text}");
        }
    }

    #[test]
    fn each_expression_is_a_job_in_its_zone() {
        let settings = "schedule = ['02:30', '0 14 * * 1-5']\nzone = 'Europe/Berlin'";
        let text = written("web", settings).unwrap();
        let documents: Vec<&str> = text.split("---\n").collect();
        assert_eq!(documents.len(), 2);
        for (document, name, schedule) in [
            (documents[0], "name: esker-web-1\n", "schedule: \"30 2 * * *\"\n"),
            (documents[1], "name: esker-web-2\n", "schedule: \"0 14 * * 1-5\"\n"),
        ] {
            assert!(document.contains(name) && document.contains(schedule), "{document}");
            assert!(document.contains("timeZone: \"Europe/Berlin\"\n"));
            assert!(document.contains("[\"esker\", \"run\", \"web\", \"--scheduled\"]"));
            assert!(
                document.contains("startingDeadlineSeconds: 86400")
                    && !document.contains("credentials")
            );
        }
    }

    #[test]
    fn credentials_are_mounted_where_they_are_looked_for() {
        let settings =
            "schedule = ['daily']\nnotify = { ping = { credential = 'ping' } }\ncatch_up = false";
        let text = written("web", settings).unwrap();
        assert_eq!(text.matches("/run/credentials/esker").count(), 2);
        assert!(text.contains("secretName: esker-credentials") && text.contains("Seconds: 600"));
    }

    #[test]
    fn what_kubernetes_cannot_say_is_refused_with_the_way_out() {
        for expression in ["*-*~1 2:00", "02:30:15", "0 0 */2 * 1", "0 0 1 * */2"] {
            let error =
                written("web", &format!("schedule = ['{expression}']")).unwrap_err().message;
            assert!(error.contains("esker schedule run") && error.contains(expression), "{error}");
        }
        assert!(written("web", "schedule = ['0 0 */2 * *']").is_ok());
    }

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        let long = "x".repeat(90);
        let names = ["web", "Web", "we b", &long].map(|profile| name(profile, "-12"));
        assert_eq!(names[0], "esker-web-12");
        for name in &names {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.len() <= 52 && name.chars().all(plain), "{name}");
        }
        assert_ne!(names[1], name("wEb", "-12"));
    }
}
