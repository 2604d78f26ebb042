//! Puts back what a run that broke off had set aside.

use super::{counted, file_name, typed_name};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::Op;
use crate::domain::past::Leftover;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};

/// Makes the plan.
pub fn plan(leftovers: &[Leftover]) -> Plan {
    let mut refused = Vec::new();
    let mut steps = Vec::new();
    let mut names: Vec<&[u8]> = Vec::new();
    for one in leftovers {
        if one.taken {
            let why = format!("something else has that name by now; what was set aside is {}", one.from);
            refused.push(Refusal { what: one.to.to_string(), why });
            continue;
        }
        names.push(file_name(&one.to));
        steps.push(Step {
            op: Op::PutBack { from: one.from.clone(), to: one.to.clone(), id: one.id },
            why: "set aside by a run that broke off; what that had removed of it is gone".to_owned(),
            group: u32::try_from(steps.len()).unwrap_or(u32::MAX),
            when: When::Always,
            guards: vec![Guard::SameFile, Guard::NameFree, Guard::Writable],
            on_error: OnError::Continue,
            frees: Reclaim::Nothing,
            on: None,
        });
    }
    let count = u64::try_from(steps.len()).unwrap_or(u64::MAX);
    let name = typed_name("put back", &names);
    Plan {
        action: ActionId::PutBack,
        summary: match leftovers.iter().find(|one| !one.taken) {
            None => "put nothing back".to_owned(),
            Some(one) if steps.len() == 1 => format!("put {} back", one.to),
            Some(_) => format!("put {} back", counted(count, "thing", "things")),
        },
        risk: Risk::Routine,
        steps,
        refused,
        reclaim: Reclaim::Nothing,
        undo: Undo::Regenerates { how: "it can be deleted again".to_owned() },
        verify: Vec::new(),
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::FileId;

    #[test]
    fn what_has_its_name_taken_is_refused_and_says_where_it_is() {
        let leftover = |to: &str, taken| Leftover {
            run: "1-2-3".to_owned(),
            from: "/x/.unwedge-quarantine-1-2-3-0/item".into(),
            to: to.into(),
            id: FileId::default(),
            taken,
        };
        let plan = plan(&[leftover("/x/a", false), leftover("/x/b", true)]);
        let shown: Vec<String> = plan.steps.iter().map(|step| step.op.to_string()).collect();
        assert_eq!(
            shown,
            ["mv --no-clobber --no-target-directory -- /x/.unwedge-quarantine-1-2-3-0/item /x/a"]
        );
        assert!(plan.refused[0].why.contains(".unwedge-quarantine-1-2-3-0/item"));
        assert_eq!((plan.risk, plan.summary.as_str()), (Risk::Routine, "put /x/a back"));
    }
}
