//! The console: model, update, view. Only `runtime` knows the engine.
//!
//! Pure `update(&mut Model, Event) -> Vec<Effect>` and `view(&Model, &mut Frame)`; four nouns, never mixed:
//! Command (what a key means), Event (what happened), Effect (what the runtime should do), and
//! Action → Plan → Op (a change to the machine).

mod effect;
mod event;
mod format;
mod glyphs;
mod input;
mod key;
pub mod keymap;
mod layout;
mod list_state;
mod lister;
mod menu;
mod model;
mod output;
mod overlay;
mod question;
mod runtime;
mod signals;
pub mod supervise;
mod sweep_list;
mod terminal;
#[cfg(test)]
mod test_models;
mod theme;
mod update;
mod view;
mod watched;
mod workers;

pub use key::Key;
pub use runtime::run;
