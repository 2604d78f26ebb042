//! Consent, and the type that proves it.

use super::plan::{Plan, Risk};

/// What a plan asks of a person before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentRequest {
    /// Press a key.
    Key,
    /// Type this word.
    Word(&'static str),
    /// Type this name.
    Name(String),
}

/// What a person gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// They pressed the key.
    Key,
    /// They typed this.
    Typed(String),
}

/// The word that agrees to a disruptive plan.
pub const WORD: &str = "yes";

/// Consent that does not fit the plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// There is nothing to agree to.
    #[error("there is nothing to do: every item was refused")]
    Empty,
    /// Something else must be typed.
    #[error("not run: this is {risk}, type {expected:?} to agree")]
    Mismatch {
        /// The plan's risk.
        risk: Risk,
        /// What must be typed.
        expected: String,
    },
}

/// A plan that somebody agreed to. There is no other way to make one than [`Plan::approve`], and
/// `exec::run` takes nothing else: confirm-before-run is a type.
///
/// ```compile_fail
/// use unwedge::domain::consent::Approved;
/// fn forge(plan: unwedge::domain::plan::Plan) -> Approved {
///     Approved { plan } // private field
/// }
/// ```
///
/// It cannot be used twice:
///
/// ```compile_fail
/// fn twice(approved: unwedge::domain::consent::Approved) {
///     let once = approved.into_plan();
///     let again = approved.into_plan(); // moved
/// }
/// ```
#[derive(Debug)]
pub struct Approved {
    plan: Plan,
}

impl Approved {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The plan, by value.
    pub fn into_plan(self) -> Plan {
        self.plan
    }
}

impl Plan {
    /// What this plan asks of a person.
    pub fn consent_request(&self) -> ConsentRequest {
        match self.risk {
            Risk::Routine => ConsentRequest::Key,
            Risk::Disruptive => ConsentRequest::Word(WORD),
            Risk::Destructive => ConsentRequest::Name(self.name.clone()),
        }
    }

    /// Turns the plan into one that may run.
    ///
    /// # Errors
    /// Where the consent does not fit the risk, or there is nothing to do. The plan is given back.
    pub fn approve(self, consent: &Consent) -> Result<Approved, (Box<Self>, ConsentError)> {
        if self.is_empty() {
            return Err((Box::new(self), ConsentError::Empty));
        }
        let expected = match self.consent_request() {
            ConsentRequest::Key => return Ok(Approved { plan: self }),
            ConsentRequest::Word(word) => word.to_owned(),
            ConsentRequest::Name(name) => name,
        };
        match consent {
            Consent::Typed(typed) if *typed == expected && !expected.is_empty() => {
                Ok(Approved { plan: self })
            }
            Consent::Typed(_) | Consent::Key => {
                let risk = self.risk;
                Err((Box::new(self), ConsentError::Mismatch { risk, expected }))
            }
        }
    }
}
