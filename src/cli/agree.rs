//! Asks at the terminal, and runs what was agreed to.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use super::Failure;
use super::args::Format;
use super::ending;
use super::exit::Exit;
use crate::domain::basket::Basket;
use crate::domain::consent::{Consent, ConsentRequest};
use crate::domain::plan::Risk;
use crate::domain::receipt::BasketReceipt;
use crate::engine::Engine;
use crate::exec;

/// JSON is for programs: there is nobody to ask.
///
/// # Errors
/// Where neither of the options says what to do.
pub fn or_say_how(format: Format, dry_run: bool, yes: bool) -> Result<(), Failure> {
    if format == Format::Json && !dry_run && !yes {
        let why = "--format json asks nobody: add --yes to run it, or --dry-run to see it";
        return Err(Failure::new(Exit::Usage, why));
    }
    Ok(())
}

/// Runs a basket once somebody agreed to it, or with `yes` the policy of what may be risked at most; none if they did not.
pub fn then_run(
    engine: &Engine,
    basket: Basket,
    yes: Option<Risk>,
) -> Result<Option<BasketReceipt>, Failure> {
    let Some(consent) = consent(&basket, yes)? else {
        super::complain("nothing was changed");
        return Ok(None);
    };
    let approved = match basket.approve(&consent) {
        Ok(approved) => approved,
        Err((_, error)) => {
            super::complain(&format!("{error}; nothing was changed"));
            return Ok(None);
        }
    };
    let run = ending::Run::begin();
    Ok(Some(show_run(|show| engine.run_all(approved, (&run.0, &exec::Skip::default()), show))))
}

/// What the person at the terminal says, or `--yes` for them. None where they say no.
fn consent(basket: &Basket, yes: Option<Risk>) -> Result<Option<Consent>, Failure> {
    let request = basket.consent_request();
    if let Some(most) = yes {
        return Ok(Some(Consent::Policy { most }));
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let why = "nothing was changed: there is no terminal to ask at; --yes agrees without asking, --dry-run only shows";
        return Err(Failure::new(Exit::NoTerminal, why));
    }
    let question = match &request {
        ConsentRequest::Key => "run this? [y/N] ".to_owned(),
        ConsentRequest::Word(word) => format!("type {word} to run this: "),
        ConsentRequest::Name(name) => format!("type {name:?} to run this: "),
    };
    let fail = |error: io::Error| Failure::new(Exit::NoTerminal, format!("nothing was changed: {error}"));
    write!(io::stderr(), "\n{question}").and_then(|()| io::stderr().flush()).map_err(fail)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(fail)?;
    let answer = answer.trim();
    Ok(match request {
        ConsentRequest::Key => matches!(answer, "y" | "yes" | "Y").then_some(Consent::Key),
        ConsentRequest::Word(_) | ConsentRequest::Name(_) => {
            (!answer.is_empty()).then(|| Consent::Typed(answer.to_owned()))
        }
    })
}

/// Runs something that shows on a terminal how far it is.
fn show_run<R>(run: impl FnOnce(&dyn Fn(exec::Progress)) -> R) -> R {
    let visible = io::stderr().is_terminal() && super::surroundings::moves_cursor();
    let result = run(&|now: exec::Progress| {
        if visible {
            let left =
                now.left.map_or_else(String::new, |left| format!(", about {} s left", left.0.div_ceil(1000)));
            // Lost progress harms nobody.
            let _ = write!(
                io::stderr(),
                "\r\x1b[Kstep {} of {}{left}: {}",
                now.step + 1,
                now.steps,
                now.op.chars().take(60).collect::<String>()
            );
        }
    });
    if visible {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    result
}
