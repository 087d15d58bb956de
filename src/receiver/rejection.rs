//! Why a request is not taken, judged once for every protocol.

use std::time::Duration;

use http::{Method, StatusCode};
use tonic::Code;

use super::{
    decompress::{Compression, Unreadable},
    refusal::{Reason, Refusal},
};
use crate::extension::bearer_token_auth::Denied;

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    /// The request is malformed.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The message is not framed as the protocol has it.
    #[error("{0}")]
    Framing(String),
    /// Not now.
    #[error(transparent)]
    Later(#[from] Refusal),
    /// Who sent it did not prove who they are.
    #[error(transparent)]
    Unauthenticated(#[from] Denied),
    /// It took too long to come.
    #[error("the request did not come in within {0:?}, try again")]
    Slow(Duration),
    /// The sender cut it off and gets no answer.
    #[error("the request was cut off: {0}")]
    Cut(#[from] hyper::Error),
    /// The name is unknown.
    #[error("there is no {found}, only {known}")]
    Unknown {
        /// The requested name.
        found: String,
        /// The supported names.
        known: &'static str,
    },
    /// Another method than POST.
    #[error("{0} is not supported, use POST")]
    Method(Method),
    /// Another content type.
    #[error("the content type is not supported, use {0}")]
    ContentType(&'static str),
    /// Another compression, or several.
    #[error("compression {0:?} is not supported, use one of {offered}", offered = Compression::OFFERED)]
    Compression(String),
}

impl Rejection {
    /// The message for the sender and for our log. It quotes what was sent, so it is short and on one line.
    pub(super) fn text(&self) -> String {
        shown(&self.to_string())
    }

    /// The code of gRPC, and of `google.rpc.Status`. It decides whether the sender tries again:
    /// `ResourceExhausted` without `RetryInfo` is final for the Collector.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Unreadable(Unreadable::TooLarge(_) | Unreadable::TooDense(_)) => {
                Code::ResourceExhausted
            }
            Self::Unreadable(_) | Self::Framing(_) => Code::InvalidArgument,
            Self::Later(_) => Code::Unavailable,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Slow(_) => Code::DeadlineExceeded,
            Self::Cut(_) => Code::Cancelled,
            Self::Unknown { .. }
            | Self::Method(_)
            | Self::ContentType(_)
            | Self::Compression(_) => Code::Unimplemented,
        }
    }

    /// The status of HTTP.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Unreadable(Unreadable::TooLarge(_) | Unreadable::TooDense(_)) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Unreadable(_) | Self::Framing(_) | Self::Cut(_) => StatusCode::BAD_REQUEST,
            // Not 408 for the slow: senders of OTLP try again after 429, 502, 503 and 504 alone,
            // and drop what they sent after anything else.
            Self::Later(_) | Self::Slow(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Unknown { .. } => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType(_) | Self::Compression(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// The reason that is counted.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Unreadable(Unreadable::TooLarge(_) | Unreadable::TooDense(_)) => Reason::TooLarge,
            Self::Unreadable(_) | Self::Framing(_) => Reason::Malformed,
            Self::Later(refusal) => refusal.reason(),
            Self::Unauthenticated(_) => Reason::Unauthenticated,
            Self::Slow(_) => Reason::Slow,
            Self::Cut(_) => Reason::Cut,
            Self::Unknown { .. }
            | Self::Method(_)
            | Self::ContentType(_)
            | Self::Compression(_) => Reason::Unsupported,
        }
    }

    /// Whether the same request will never be taken.
    pub(super) fn is_final(&self) -> bool {
        !matches!(self, Self::Later(_) | Self::Slow(_) | Self::Cut(_))
    }

    /// How long the sender should wait before it tries again; `None` when the same
    /// request is never taken, or when to send it again is the sender's affair.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Later(refusal) => Some(refusal.retry_after()),
            Self::Slow(_) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

fn shown(reason: &str) -> String {
    const MOST: usize = 300;
    let mut short: String = reason
        .chars()
        .take(MOST)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    if reason.chars().nth(MOST).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One field of a request in JSON may be as long as the request.
    #[test]
    fn reasons_are_short_and_on_one_line() {
        assert_eq!(shown("a\n\u{1b}b"), "a  b");
        assert_eq!(shown(&"\u{fc}".repeat(300)), "\u{fc}".repeat(300));
        assert_eq!(shown(&"x".repeat(1 << 20)).len(), 303);
    }
}
