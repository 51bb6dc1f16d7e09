//! What each command prints, as a terminal shows it: stderr behind `|`, then stdout. To renew, after a look at what changed:
//! `cargo insta test --features fault-points --accept -- text::`.

#![expect(clippy::too_many_lines, reason = "what users see is long")]

mod alerts;
mod back;
mod by_hand;
mod errors;
mod held;
mod updates;
