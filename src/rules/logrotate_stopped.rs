//! logrotate ran once and does not any more.

use super::{Found, Rule};
use crate::config::Settings;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::snapshot::{Evidence, Snapshot};

pub const RULE: Rule = Rule {
    id: "logrotate-stopped",
    why: "logrotate runs once a day and says nothing when it does not. From then on every log on the machine grows \
          until the disk is full.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let found = || {
        let logrotate = snapshot.logs.value()?.logrotate.as_ref()?;
        let (state, last) = (logrotate.state.as_ref()?, logrotate.last_run?);
        if !logrotate.has_stopped(snapshot.taken_at, settings.logs.logrotate_days) {
            return None;
        }
        let days = snapshot.taken_at.duration_since(last).as_hours() / 24;
        let mut evidence = vec![Evidence::new(
            format!("its state was written last at {}", last.strftime("%Y-%m-%d %H:%M UTC")),
            format!("stat({state}): st_mtime"),
        )];
        evidence.push(match logrotate.started_by.as_slice() {
            [] => Evidence::new(
                "nothing that starts it was found: neither an enabled timer nor a daily job",
                "/etc/systemd/system/timers.target.wants, /etc/cron.daily",
            ),
            [first, ..] => Evidence::new("something should start it every day", first.to_string()),
        });
        evidence.extend(logrotate.complaints.iter().map(|complaint| {
            Evidence::new(
                format!("it complains: {complaint}"),
                format!("logrotate --debug {}", logrotate.config.quoted()),
            )
        }));
        Some(Found {
            key: String::new(),
            severity: Severity::Warning,
            subject: Subject::Logs { paths: vec![logrotate.config.clone()] },
            title: format!("logrotate did not run for {days} days"),
            evidence,
            reclaim: Reclaim::Unknown,
            actions: Vec::new(),
            advice: format!(
                "logrotate --verbose {} runs it now and says what is wrong. See why it was not started: systemctl \
                 status logrotate.timer logrotate.service; systemctl enable --now logrotate.timer starts it daily. \
                 Without systemd it is /etc/cron.daily/logrotate, which needs a running cron.",
                logrotate.config.quoted()
            ),
        })
    };
    found().into_iter().collect()
}
