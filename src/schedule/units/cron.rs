//! Lines of cron for a profile: crontab(5). cron has no zones, seconds or
//! catch-up, and what it cannot say is refused, not said otherwise.

use jiff::tz::TimeZone;

use super::{Program, Unit, header};
use crate::repository::Result;
use crate::schedule::calendar::Calendar;
use crate::schedule::{Job, usage};

/// What is to be done where cron cannot say it.
const INSTEAD: &str = "let cron run \"esker run --due\" every five minutes instead";

/// A file for `/etc/cron.d`, where each line names its user: root. `local` is
/// the zone that cron goes by.
pub fn file(job: &Job, program: &Program, local: &TimeZone) -> Result<Unit> {
    let mut text = header(&job.profile);
    text.push_str("SHELL=/bin/sh\n");
    text.push_str("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    // where the units of systemd have it, too: who runs what is noted there
    text.push_str("ESKER_CACHE_DIR=/var/cache/esker\n");
    let command = command(job, program)?;
    for times in times(job, local)? {
        text.push_str(&format!("{times} root {command}\n"));
    }
    Ok(Unit { name: file_name(&job.profile), text })
}

/// Lines for a user's own crontab.
pub fn lines(job: &Job, program: &Program, local: &TimeZone) -> Result<Vec<String>> {
    let command = command(job, program)?;
    Ok(times(job, local)?.into_iter().map(|times| format!("{times} {command}")).collect())
}

/// Names with a dot are passed over by cron.
pub fn file_name(profile: &str) -> String {
    let escaped = profile.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
        _ => format!("_{byte:02x}"),
    });
    format!("esker-{}", escaped.collect::<String>())
}

fn times(job: &Job, local: &TimeZone) -> Result<Vec<String>> {
    if job.expressions.is_empty() {
        return Err(usage(&job.profile, "it has no schedule"));
    }
    job.expressions.iter().map(|expression| fields(job, expression, local)).collect()
}

fn fields(job: &Job, expression: &Calendar, local: &TimeZone) -> Result<String> {
    let refused = |reason: &str| {
        let text = expression.text();
        usage(&job.profile, &format!("schedule {text:?}: {reason}; {INSTEAD}"))
    };
    if expression.zone() != local && expression.zone().iana_name() != local.iana_name() {
        let name = expression.zone().iana_name().unwrap_or("another");
        return Err(refused(&format!("cron goes by this machine's time zone, not by {name}")));
    }
    expression.cron_line().map_err(|reason| refused(&reason))
}

fn command(job: &Job, program: &Program) -> Result<String> {
    let words = program.words(&job.profile)?;
    let command = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    // cron takes a plain % for the end of the line
    Ok(command.replace('%', "\\%"))
}

/// A word of the shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@+=,%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::zone;

    fn job(settings: &str) -> Job {
        let local = zone("Europe/Berlin").unwrap();
        Job::of("we'b 5%", &toml::from_str(settings).unwrap(), &local).unwrap()
    }

    fn written(settings: &str) -> Result<Vec<String>> {
        let program = Program { path: "/usr/bin/esker".into(), configuration: None };
        lines(&job(settings), &program, &zone("Europe/Berlin").unwrap())
    }

    #[test]
    fn what_cron_can_say_is_translated() {
        let command = r"/usr/bin/esker run 'we'\''b 5\%' --scheduled";
        for (expression, fields) in [
            ("02:30", "30 2 * * *"),
            ("*:0/15", "0-45/15 * * * *"),
            ("Sun,Tue..Thu 4:00", "0 4 * * 0,2,3,4"),
            ("*-1,7-01 12:00", "0 12 1 1,7 *"),
            ("daily Europe/Berlin", "0 0 * * *"),
            ("@weekly", "0 0 * * 0"),
            ("5  4 * * mon", "5 4 * * mon"),
        ] {
            let lines = written(&format!("schedule = ['{expression}']")).unwrap();
            assert_eq!(lines, [format!("{fields} {command}")], "{expression}");
        }
    }

    #[test]
    fn what_cron_cannot_say_is_refused_with_the_way_out() {
        for (expression, word) in [
            ("02:30:15", "seconds"),
            ("*-*~1 2:00", "days from the end of a month"),
            ("2027-*-* 2:00", "years"),
            ("Mon *-*-1..7 2:00", "must also be"),
            ("02:30 UTC", "not by UTC"),
        ] {
            let error = written(&format!("schedule = ['{expression}']")).unwrap_err().message;
            assert!(error.contains(word) && error.contains("esker run --due"), "{error}");
        }
        assert!(written("").unwrap_err().message.contains("no schedule"));
    }

    #[test]
    fn a_file_names_its_user_and_has_no_dot_in_its_name() {
        let program =
            Program { path: "/opt/a b/esker".into(), configuration: Some("/e.toml".into()) };
        let local = zone("Europe/Berlin").unwrap();
        let unit = file(&job("schedule = ['02:30']"), &program, &local).unwrap();
        assert_eq!(unit.name, "esker-we_27b_205_25");
        let last =
            r"30 2 * * * root '/opt/a b/esker' run 'we'\''b 5\%' --scheduled --config /e.toml";
        assert_eq!(unit.text.lines().last(), Some(last));
        assert_eq!(super::super::profile_of(&unit.text).as_deref(), Some("we'b 5%"));
    }
}
