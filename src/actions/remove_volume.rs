//! Removes one volume of a container engine that no container uses. It holds data of people: it is named by a person, one
//! at a time, and listed again just before.

use super::{device_at, prune, space_at, typed_name};
use crate::domain::command::ToolTarget;
use crate::domain::engines::{Engine, EngineKind, Volume};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::Op;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::snapshot::Snapshot;

/// What the driver is called whose data is on this machine.
const LOCAL: &[u8] = b"local";

/// Makes the plan.
pub fn plan(engine: &Engine, volume: &Volume, snapshot: &Snapshot) -> Plan {
    let kind = engine.kind;
    let mut refused = Vec::new();
    let mut steps = Vec::new();
    let reclaim = match volume.size {
        Some(size) if is_local(volume) => Reclaim::exact(size),
        // What a driver keeps elsewhere comes back elsewhere.
        Some(_) | None => Reclaim::Unknown,
    };
    if let Some(why) = refusal(kind, volume) {
        refused.push(Refusal { what: format!("volume {}", volume.name), why });
    } else {
        let name = volume.name.as_bytes();
        let command = prune::command(engine, kind.name());
        steps.push(Step {
            op: Op::Run {
                command: command.args([b"volume".as_slice(), b"rm", name]),
                target: ToolTarget::Volume {
                    engine: kind,
                    reach: engine.reach.clone(),
                    name: volume.name.clone(),
                    driver: volume.driver.clone(),
                    created: volume.created,
                },
            },
            why: format!("{}; no container uses it, not even one that has ended", about(volume, snapshot)),
            group: 0,
            when: When::Always,
            guards: vec![Guard::StillUnused],
            on_error: OnError::Stop,
            frees: reclaim,
            on: device_at(snapshot, &engine.store),
        });
    }
    let is_empty = steps.is_empty();
    Plan {
        action: ActionId::RemoveVolume,
        summary: if is_empty {
            format!("remove no volume of {kind}")
        } else {
            format!("remove volume {} of {kind}", volume.name)
        },
        risk: Risk::Destructive,
        verify: if is_empty { Vec::new() } else { vec![space_at(snapshot, &engine.store)] },
        steps,
        refused,
        reclaim: if is_empty { Reclaim::Nothing } else { reclaim },
        unknown: Vec::new(),
        undo: Undo::Impossible,
        name: typed_name("remove volume", &[volume.name.as_bytes()]),
        again: None,
    }
}

fn is_local(volume: &Volume) -> bool {
    volume.driver.as_ref().is_some_and(|driver| driver.as_bytes() == LOCAL)
}

/// Its size, age and driver, for people.
pub fn about(volume: &Volume, snapshot: &Snapshot) -> String {
    let size = volume.size.map_or_else(|| "size not known".to_owned(), |size| size.to_string());
    let age = volume.created.map_or_else(
        || "age not known".to_owned(),
        |made| {
            let days = snapshot.taken_at.duration_since(made).as_hours() / 24;
            match days {
                ..=0 => "made today".to_owned(),
                1 => "made yesterday".to_owned(),
                days => format!("made {days} days ago"),
            }
        },
    );
    let driver = volume
        .driver
        .as_ref()
        .map_or_else(|| "driver not known".to_owned(), |driver| format!("driver {driver}"));
    format!("{size}, {age}, {driver}")
}

/// Why it is not removed.
fn refusal(kind: EngineKind, volume: &Volume) -> Option<String> {
    let name = volume.name.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    if kind == EngineKind::Containerd {
        return Some("containerd has no volumes".to_owned());
    }
    if !(name.first().is_some_and(u8::is_ascii_alphanumeric) && name.iter().all(plain)) {
        return Some("its name is none that an engine gives; look at it by hand".to_owned());
    }
    match volume.used_by {
        Some(0) => None,
        Some(count) => Some(format!("{count} containers use it (one that has ended may start again)")),
        None => Some("nobody can say whether a container uses it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::consent::ConsentRequest;
    use crate::domain::reading::Reading;
    use crate::domain::size::Bytes;
    use jiff::Timestamp;

    #[test]
    fn one_volume_by_its_name_and_only_where_nothing_uses_it() {
        let engine = Engine {
            kind: EngineKind::Docker,
            store: "/var/lib/docker".into(),
            store_size: Reading::Pending,
            content: Reading::Pending,
            ..Engine::new(EngineKind::Docker, "".into())
        };
        let snapshot = Snapshot::pending(Timestamp::from_second(40 * 86_400 + 5).unwrap());
        let volume = Volume {
            name: "db-data".into(),
            size: Some(Bytes(2 << 30)),
            used_by: Some(0),
            driver: Some("local".into()),
            created: Some(Timestamp::UNIX_EPOCH),
        };
        let make = |volume: &Volume| plan(&engine, volume, &snapshot);
        let good = make(&volume);
        assert_eq!(good.steps[0].op.words(), "docker volume rm db-data");
        assert_eq!((good.risk, good.reclaim), (Risk::Destructive, Reclaim::exact(Bytes(2 << 30))));
        assert_eq!(good.steps[0].why.split(';').next().unwrap(), "2.0 GiB, made 40 days ago, driver local");
        assert_eq!(good.consent_request(), ConsentRequest::Name("db-data".to_owned()));
        for bad in [
            Volume { used_by: Some(1), ..volume.clone() },
            Volume { used_by: None, ..volume.clone() },
            Volume { name: "--force".into(), ..volume.clone() },
            Volume { name: "a b".into(), ..volume.clone() },
            Volume { name: "".into(), ..volume.clone() },
        ] {
            let plan = make(&bad);
            assert!(plan.is_empty() && plan.refused.len() == 1, "{plan:?}");
        }
        let elsewhere = make(&Volume { driver: Some("nfs".into()), ..volume });
        assert_eq!(elsewhere.reclaim, Reclaim::Unknown);
    }
}
