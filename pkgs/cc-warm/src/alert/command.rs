//! The sink `command`: a program that gets the message as JSON on stdin, and the token, if there is one, as
//! `CC_WARM_TOKEN`. Its environment is empty otherwise, but for `PATH`. Exit 0 within 30 s means that it was taken.

use std::time::Duration;

use super::message::Message;
use super::sink::{SendError, Token};
use crate::sys::command::Program;

const DEADLINE: Duration = Duration::from_secs(30);
const OUTPUT_CAP: usize = 64 << 10;

pub(super) fn send(argv: &[String], token: Option<&Token>, message: &Message) -> Result<(), SendError> {
    let (executable, rest) = argv.split_first().ok_or_else(|| SendError::new("`argv` names no program"))?;
    let body = serde_json::to_vec(message).map_err(|e| SendError::new(e.to_string()))?;
    let mut program = Program::new(executable).args(rest).stdin(body).deadline(DEADLINE).cap(OUTPUT_CAP);
    if let Some(token) = token {
        program = program.env("CC_WARM_TOKEN", token.reveal());
    }
    program.run_ok().map(drop).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        SendError::new(format!("{error}{}", cause.unwrap_or_default()))
    })
}
