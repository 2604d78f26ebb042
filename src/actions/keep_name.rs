//! Keeps a name out of every sweep from now on, by the configuration.

use toml_edit::Array;

use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::Op;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::sweep::{KeepPlace, NameToKeep, literal};
use crate::domain::text::sanitise;

/// Makes the plan.
pub fn plan(wanted: &NameToKeep) -> Plan {
    let (steps, refused) = match step(wanted) {
        Ok(step) => (vec![step], Vec::new()),
        Err(why) => (Vec::new(), vec![Refusal { what: wanted.name.to_string(), why }]),
    };
    Plan {
        action: ActionId::KeepName,
        summary: format!("keep {} out of every sweep from now on", wanted.name),
        risk: Risk::Routine,
        steps,
        refused,
        reclaim: Reclaim::Nothing,
        unknown: Vec::new(),
        undo: Undo::Regenerates { how: "take the name out of the list again".to_owned() },
        verify: Vec::new(),
        name: "keep 1".to_owned(),
        again: None,
    }
}

fn step(wanted: &NameToKeep) -> Result<Step, String> {
    let name = literal(&wanted.name)?;
    let place = wanted.place.value().ok_or_else(|| wanted.place.sentences().join("; "))?;
    if place.list.contains(&name) {
        return Err(format!("the list of names to keep (sweep.keep) has {name:?} already"));
    }
    Ok(Step {
        why: after(place, &name),
        op: Op::KeepName { file: place.file.clone(), name },
        group: 0,
        when: When::Always,
        guards: vec![Guard::Writable, Guard::OwnConfig],
        on_error: OnError::Continue,
        frees: Reclaim::Nothing,
        on: None,
    })
}

/// What the file says then.
fn after(place: &KeepPlace, name: &str) -> String {
    let list: Array = place.list.iter().map(String::as_str).chain(std::iter::once(name)).collect();
    let list = list.to_string();
    let list = sanitise(list.as_bytes());
    let file = if place.new { "a new file, for you only" } else { "the rest of the file stays as it is" };
    format!("it has keep = {list} below [sweep] then; {file}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::reading::Reading;
    use crate::domain::text::HostText;

    #[test]
    fn it_says_what_is_written_where_and_refuses_what_is_there() {
        let place =
            KeepPlace { file: "/etc/unwedge/config.toml".into(), new: false, list: vec!["a*".to_owned()] };
        let wanted = NameToKeep { name: HostText::from("b[1]"), place: Reading::ready(place.clone()) };
        let plan = super::plan(&wanted);
        let step = &plan.steps[0];
        assert_eq!(step.op.words(), "add b\\[1\\] to sweep.keep in /etc/unwedge/config.toml");
        assert!(step.why.starts_with("it has keep = [\"a*\", 'b\\[1\\]'] below [sweep]"), "{}", step.why);
        assert_eq!((plan.risk, plan.refused.len()), (Risk::Routine, 0));
        let there = KeepPlace { list: vec!["b\\[1\\]".to_owned()], ..place };
        let plan = super::plan(&NameToKeep { place: Reading::ready(there), ..wanted.clone() });
        assert!(plan.is_empty() && plan.refused[0].why.contains("already"));
        let place = Reading::Unavailable { why: "--set wins".to_owned() };
        let plan = super::plan(&NameToKeep { place, ..wanted });
        assert!(plan.refused[0].why.contains("--set wins"));
    }
}
