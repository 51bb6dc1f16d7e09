//! The sink `webhook`: a POST of the message as JSON, with a bearer token if there is one. `Idempotency-Key` is the
//! message's id. Any status of 200 to 299 means that it was taken.

use super::message::Message;
use super::sink::{SendError, TIMEOUT, Token, judge};
use crate::sys::http::{Request, origin};

pub(super) fn send(url: &str, token: Option<&Token>, message: &Message) -> Result<(), SendError> {
    let body = serde_json::to_vec(message).map_err(|e| SendError::new(e.to_string()))?;
    let mut request = Request::post(url, "application/json", body).timeout(TIMEOUT).by_proxy();
    request = request.header("idempotency-key", message.id());
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.reveal()));
    }
    let response = request.send().map_err(|e| SendError::new(format!("{}: {e}", origin(url))))?;
    judge(url, &response)
}
