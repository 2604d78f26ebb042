//! Consent, and the type that proves it.

use super::basket::{Basket, Goal};
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

/// A basket that somebody agreed to as a whole: the proof for each of its parts. There is no other way to make one
/// than [`Basket::approve`], and `exec::run_all` takes nothing else.
///
/// ```compile_fail
/// use unwedge::domain::consent::ApprovedBasket;
/// fn forge(basket: unwedge::domain::basket::Basket) -> ApprovedBasket {
///     ApprovedBasket { basket } // private field
/// }
/// ```
///
/// Its parts run once:
///
/// ```compile_fail
/// fn twice(approved: unwedge::domain::consent::ApprovedBasket) {
///     let once = approved.into_parts();
///     let again = approved.into_parts(); // moved
/// }
/// ```
///
/// And what was agreed to cannot be changed afterwards:
///
/// ```compile_fail
/// fn add(mut approved: unwedge::domain::consent::ApprovedBasket, plan: unwedge::domain::plan::Plan) {
///     approved.basket().parts.push(plan); // behind a shared reference
/// }
/// ```
#[derive(Debug)]
pub struct ApprovedBasket {
    basket: Basket,
}

impl ApprovedBasket {
    /// The basket.
    pub fn basket(&self) -> &Basket {
        &self.basket
    }

    /// The parts, each with its own proof, and where it is enough.
    pub fn into_parts(self) -> (Vec<Approved>, Option<Goal>) {
        let parts = self.basket.parts.into_iter().filter(|plan| !plan.is_empty());
        (parts.map(|plan| Approved { plan }).collect(), self.basket.goal)
    }
}

/// Whether what was given is what is asked for; else what must be typed.
fn fits(request: ConsentRequest, consent: &Consent) -> Result<(), String> {
    let expected = match request {
        ConsentRequest::Key => return Ok(()),
        ConsentRequest::Word(word) => word.to_owned(),
        ConsentRequest::Name(name) => name,
    };
    match consent {
        Consent::Typed(typed) if *typed == expected && !expected.is_empty() => Ok(()),
        Consent::Typed(_) | Consent::Key => Err(expected),
    }
}

impl Basket {
    /// What this basket asks of a person: what its riskiest part asks. Where several lose data, their number is typed
    /// rather than each name.
    pub fn consent_request(&self) -> ConsentRequest {
        match self.risk() {
            Risk::Routine => ConsentRequest::Key,
            Risk::Disruptive => ConsentRequest::Word(WORD),
            Risk::Destructive => {
                let mut losing = self.parts.iter().filter(|plan| plan.risk == Risk::Destructive);
                match (losing.next(), losing.next()) {
                    (Some(only), None) => ConsentRequest::Name(only.name.clone()),
                    _ => ConsentRequest::Name(format!("run {}", self.items())),
                }
            }
        }
    }

    /// Turns the basket into one that may run.
    ///
    /// # Errors
    /// Where the consent does not fit the highest risk, or there is nothing to do. The basket is given back.
    pub fn approve(self, consent: &Consent) -> Result<ApprovedBasket, (Box<Self>, ConsentError)> {
        if self.is_empty() {
            return Err((Box::new(self), ConsentError::Empty));
        }
        match fits(self.consent_request(), consent) {
            Ok(()) => Ok(ApprovedBasket { basket: self }),
            Err(expected) => {
                let risk = self.risk();
                Err((Box::new(self), ConsentError::Mismatch { risk, expected }))
            }
        }
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
        match fits(self.consent_request(), consent) {
            Ok(()) => Ok(Approved { plan: self }),
            Err(expected) => {
                let risk = self.risk;
                Err((Box::new(self), ConsentError::Mismatch { risk, expected }))
            }
        }
    }
}
