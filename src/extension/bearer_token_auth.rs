//! The `bearertokenauth` extension: who may send, by a secret in a header.

use std::path::PathBuf;

use secrecy::SecretString;

/// Settings of one `bearertokenauth` extension, under the Collector's key names.
#[derive(Clone, Debug)]
pub struct Config {
    /// `header` that carries the token.
    pub header: String,
    /// `scheme` before the token; empty: the token stands alone.
    pub scheme: String,
    /// `token` or `tokens`: each is accepted. A client sends the first.
    pub tokens: Vec<SecretString>,
    /// `filename`: file with the tokens, one a line, instead of `tokens`.
    pub filename: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            header: "Authorization".to_owned(),
            scheme: "Bearer".to_owned(),
            tokens: Vec::new(),
            filename: None,
        }
    }
}
