//! The headers of an exporter's requests: its own, and that of a `bearertokenauth` extension.

use http::HeaderMap;
use secrecy::SecretString;

use super::text;
use crate::extension::bearer_token_auth::{BearerTokenAuth, Config, Error};

/// The headers of every request.
#[derive(Debug)]
pub(super) struct Headers {
    all: HeaderMap,
    secrets: Vec<SecretString>,
    auth: Option<BearerTokenAuth>,
}

impl Headers {
    /// All headers but that of the extension that `auth` names, if it does. The values of `own`, the
    /// settings', are secrets.
    ///
    /// # Errors
    /// When the extension has no token.
    pub(super) fn new(
        all: HeaderMap,
        own: &HeaderMap,
        auth: Option<&Config>,
    ) -> Result<Self, Error> {
        Ok(Self {
            all,
            secrets: text::secrets(own, None),
            auth: auth.map(BearerTokenAuth::new).transpose()?,
        })
    }

    /// The same, with more that no message may hold.
    pub(super) fn hiding(mut self, more: Vec<SecretString>) -> Self {
        self.secrets.extend(more);
        self
    }

    /// The headers for a request that is sent now, and what no message may hold of them.
    pub(super) async fn now(&self) -> (HeaderMap, Vec<SecretString>) {
        let (mut headers, mut secrets) = (self.all.clone(), self.secrets.clone());
        if let Some(auth) = &self.auth {
            // The file may have changed since the last request.
            auth.refresh().await;
            if let Some((name, value)) = auth.client_header() {
                headers.insert(name, value);
            }
            secrets.extend(auth.client_token());
        }
        (headers, secrets)
    }
}
