//! Sends one message to one sink. A sink's token and URL never enter an error.

use std::time::Duration;

use super::message::Message;
use super::{command, ntfy, webhook};
use crate::config::Sink;
use crate::config::secret::SecretFile;
use crate::sys::http::{Response, origin};
use crate::sys::untrusted::Untrusted;

/// How long one attempt may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// Most characters of an error.
const ERROR_CAP: usize = 400;

/// Why a sink did not take a message, in one line that is safe to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SendError {
    text: String,
    /// Whether the sink refuses this message, and may well take others.
    pub refused: bool,
}

impl SendError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), refused: false }
    }

    /// Without `secret`, wherever it was quoted.
    fn without(mut self, secret: Option<&Token>) -> Self {
        if let Some(Token(secret)) = secret {
            self.text = self.text.replace(secret.as_str(), "***");
        }
        self.text = Untrusted::new(self.text).capped(ERROR_CAP).terminal();
        self
    }
}

/// A sink's token: never shown, never empty, one line.
#[derive(Clone)]
pub(super) struct Token(String);

impl Token {
    fn read(file: &SecretFile) -> Result<Self, SendError> {
        let shown = file.source().display();
        let text = std::fs::read_to_string(file.locate())
            .map_err(|e| SendError::new(format!("the token file `{shown}` cannot be read: {e}")))?;
        let token = text.trim();
        // What is in it is a secret even when it is wrong.
        if token.is_empty() || !token.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(SendError::new(format!("the token file `{shown}` must hold one line of visible ASCII")));
        }
        Ok(Self(token.to_owned()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

/// Sends `message` to `sink`, once.
pub fn send(sink: &Sink, message: &Message) -> Result<(), SendError> {
    let (Sink::Webhook { token_file, .. } | Sink::Ntfy { token_file, .. } | Sink::Command { token_file, .. }) = sink;
    let token = token_file.as_ref().map(Token::read).transpose()?;
    let sent = match sink {
        Sink::Webhook { url, .. } => webhook::send(url, token.as_ref(), message),
        Sink::Ntfy { url, .. } => ntfy::send(url, token.as_ref(), message),
        Sink::Command { argv, .. } => command::send(argv, token.as_ref(), message),
    };
    sent.map_err(|error| error.without(token.as_ref()))
}

/// What a web server's answer means.
pub(super) fn judge(url: &str, response: &Response) -> Result<(), SendError> {
    let status = response.status;
    if (200..300).contains(&status) {
        return Ok(());
    }
    let said = Untrusted::new(response.body.raw().trim()).capped(120).terminal();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let moved = if status / 100 == 3 { " (redirects are not followed: set the new URL)" } else { "" };
    // Of these, another try may go well, with any message; what is wrong with credentials concerns every message.
    let refused = status / 100 == 4 && ![401, 403, 404, 407, 408, 425, 429].contains(&status);
    Err(SendError { text: format!("{} answered {status}{moved}{said}", origin(url)), refused })
}
