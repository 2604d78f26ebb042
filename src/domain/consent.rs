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

/// What a person, or a policy for one, gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// They pressed the key.
    Key,
    /// They typed this.
    Typed(String),
    /// Nobody was asked: a policy agrees to everything up to this risk, and never to the loss of data.
    Policy {
        /// The most that may be risked.
        most: Risk,
    },
}

/// The word that agrees to a disruptive plan.
pub const WORD: &str = "yes";

/// Consent that does not fit the plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// There is nothing to agree to.
    #[error("there is nothing to do: every item was refused")]
    Empty,
    /// A policy does not go that far.
    #[error("not run: this is {risk}, and {}", beyond(*.risk, *.most))]
    TooRisky {
        /// The plan's risk.
        risk: Risk,
        /// The most that the policy agrees to.
        most: Risk,
    },
    /// Something else must be typed.
    #[error("not run: this is {risk}, type {expected:?} to agree")]
    Mismatch {
        /// The plan's risk.
        risk: Risk,
        /// What must be typed.
        expected: String,
    },
}

/// What to do about a plan that a policy does not agree to.
fn beyond(risk: Risk, most: Risk) -> String {
    if risk == Risk::Destructive {
        "what loses data is agreed to by typing its name, at a terminal".to_owned()
    } else {
        format!("only what is {most} at most may run unasked")
    }
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
    by_policy: bool,
}

impl ApprovedBasket {
    /// The basket.
    pub fn basket(&self) -> &Basket {
        &self.basket
    }

    /// Whether a policy agreed to it, and no person.
    pub fn by_policy(&self) -> bool {
        self.by_policy
    }

    /// The parts, each with its own proof, and where it is enough.
    pub fn into_parts(self) -> (Vec<Approved>, Option<Goal>) {
        let parts = self.basket.parts.into_iter().filter(|plan| !plan.is_empty());
        (parts.map(|plan| Approved { plan }).collect(), self.basket.goal)
    }
}

/// Whether what was given is enough for this risk.
fn fits(risk: Risk, request: ConsentRequest, consent: &Consent) -> Result<(), ConsentError> {
    let expected = match request {
        ConsentRequest::Key => None,
        ConsentRequest::Word(word) => Some(word.to_owned()),
        ConsentRequest::Name(name) => Some(name),
    };
    match (consent, expected) {
        (Consent::Policy { most }, _) if risk <= *most && risk < Risk::Destructive => Ok(()),
        (Consent::Policy { most }, _) => Err(ConsentError::TooRisky { risk, most: *most }),
        (Consent::Key | Consent::Typed(_), None) => Ok(()),
        (Consent::Typed(typed), Some(expected)) if *typed == expected && !expected.is_empty() => Ok(()),
        (Consent::Key | Consent::Typed(_), Some(expected)) => Err(ConsentError::Mismatch { risk, expected }),
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
        match fits(self.risk(), self.consent_request(), consent) {
            Ok(()) => {
                Ok(ApprovedBasket { basket: self, by_policy: matches!(consent, Consent::Policy { .. }) })
            }
            Err(error) => Err((Box::new(self), error)),
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
        match fits(self.risk, self.consent_request(), consent) {
            Ok(()) => Ok(Approved { plan: self }),
            Err(error) => Err((Box::new(self), error)),
        }
    }
}
