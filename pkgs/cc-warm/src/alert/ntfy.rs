//! The sink `ntfy`: published as JSON to the server's root, so that nothing foreign is in a header. The URL is that of
//! the topic, `https://ntfy.example.org/ops`. The message is plain text, never Markdown, cut to what ntfy takes.

use serde_json::json;

use super::Severity;
use super::message::Message;
use super::sink::{SendError, TIMEOUT, Token, judge};
use crate::sys::http::{Request, origin};

/// ntfy turns longer messages into attachments, which not every server takes.
const MESSAGE_BYTES: usize = 4000;
const TITLE_BYTES: usize = 240;

pub(super) fn send(url: &str, token: Option<&Token>, message: &Message) -> Result<(), SendError> {
    let (root, topic) = split(url).ok_or_else(|| {
        SendError::new(format!(
            "{}: the URL of an ntfy sink must be that of a topic, https://<server>/<topic>",
            origin(url)
        ))
    })?;
    let (priority, tag) = match (message.resolved(), message.severity()) {
        (true, _) => (2, "white_check_mark"),
        (_, Severity::Critical) => (5, "rotating_light"),
        (_, Severity::Warning) => (4, "warning"),
        (_, Severity::Notice) => (3, "information_source"),
    };
    let body = json!({
        "topic": topic,
        "title": cut(&message.title(), TITLE_BYTES),
        "message": cut(message.text(), MESSAGE_BYTES),
        "priority": priority,
        "tags": [tag, "cc-warm"],
    });
    let mut request =
        Request::post(root, "application/json", body.to_string().into_bytes()).timeout(TIMEOUT).by_proxy();
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.reveal()));
    }
    let response = request.send().map_err(|e| SendError::new(format!("{}: {e}", origin(url))))?;
    judge(url, &response)
}

/// The server's root and the topic.
fn split(url: &str) -> Option<(&str, &str)> {
    let (root, topic) = url.trim_end_matches('/').rsplit_once('/')?;
    let named = !topic.is_empty() && topic.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
    (named && !root.ends_with('/')).then_some((root, topic))
}

/// At most `bytes` of `text`, between two characters.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_topic_off_the_url() {
        assert_eq!(split("https://n.org/ops"), Some(("https://n.org", "ops")));
        assert_eq!(split("https://n.org/sub/ops-1_x/"), Some(("https://n.org/sub", "ops-1_x")));
        for bad in ["https://n.org", "https://n.org/", "https://n.org/a?b=c", "https://n.org/a b"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!(cut("äää", 6), "äää");
        assert_eq!(cut("ääää", 6), "ä…");
    }
}
