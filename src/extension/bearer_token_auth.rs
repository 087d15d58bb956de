//! The `bearertokenauth` extension: who may send, by a secret in a header.

use std::{
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::{
    reload::{Reloaded, Source},
    visible,
};

/// How often a file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Most bytes of a file, and most tokens: each request is compared with all of them.
const FILE_BYTES: u64 = 256 * 1024;
const MAX_TOKENS: usize = 1000;

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

/// A file of tokens that cannot be used. Holds none of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name of the header is invalid.
    #[error("header: {0:?} is no name of a header")]
    Header(String),
    /// The file cannot be read.
    #[error("filename: cannot read {}: {why}", visible::path(.path))]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// Why. Part of the message, and so no source that is printed behind it.
        why: std::io::Error,
    },
    /// It holds something else than tokens.
    #[error("filename: {} {why}", visible::path(.path))]
    Content {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A request without a known token. Its header is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    why: Why,
    header: HeaderName,
    scheme: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Missing,
    Scheme,
    Unknown,
}

impl Denied {
    /// `WWW-Authenticate`: how to do better.
    pub fn challenge(&self) -> HeaderValue {
        HeaderValue::from_str(&self.scheme)
            .ok()
            .filter(|scheme| !scheme.is_empty())
            .unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

/// The Collector drops what is answered so, hence what to do stands in front of its log's reader.
impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            why,
            header,
            scheme,
        } = self;
        match why {
            Why::Missing => write!(
                f,
                "the request has no {header} header, set auth: {{authenticator: bearertokenauth}} \
                 at the sender's exporter, with a token that is known here"
            ),
            Why::Scheme => write!(
                f,
                "the {header} header does not hold {scheme:?} and a token, set header and scheme \
                 of the sender's bearertokenauth as they are here"
            ),
            Why::Unknown => write!(
                f,
                "the token in the {header} header is not known here, set the sender's token anew \
                 or add it to bearertokenauth here"
            ),
        }
    }
}

impl std::error::Error for Denied {}

/// Tokens that are good. Clones share them.
#[derive(Clone)]
pub struct BearerTokenAuth {
    header: HeaderName,
    scheme: Arc<str>,
    tokens: Reloaded<TokenSource>,
}

/// Where tokens come from.
struct TokenSource {
    /// Those of the configuration.
    tokens: Vec<SecretString>,
    /// A file that holds them instead.
    filename: Option<PathBuf>,
}

impl Source for TokenSource {
    type Value = Tokens;
    type Error = Error;

    const WHAT: &'static str = "tokens";

    fn place(&self) -> String {
        match &self.filename {
            Some(path) => visible::path(path).to_string(),
            None => "the configuration".to_owned(),
        }
    }

    fn interval(&self) -> Option<Duration> {
        self.filename.is_some().then_some(LOOK_EVERY)
    }

    fn read(&self) -> Result<Tokens, Error> {
        match &self.filename {
            Some(path) => Ok(Tokens::new(&read(path)?)),
            None => Ok(Tokens::new(&self.tokens)),
        }
    }
}

struct Tokens {
    first: Option<SecretString>,
    /// All have the same length, so a comparison does not show that of a token.
    digests: Vec<[u8; 32]>,
}

impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        self.digests == other.digests
    }
}

impl Tokens {
    fn new(tokens: &[SecretString]) -> Self {
        Self {
            first: tokens.first().cloned(),
            digests: tokens
                .iter()
                .map(|token| digest(token.expose_secret().as_bytes()))
                .collect(),
        }
    }

    /// Takes the same time whichever token it is, and however much of it is right.
    fn knows(&self, token: &[u8]) -> bool {
        let token = digest(token);
        let known = self
            .digests
            .iter()
            .fold(Choice::from(0), |known, good| known | good.ct_eq(&token));
        known.into()
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl fmt::Debug for BearerTokenAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerTokenAuth")
            .field("header", &self.header)
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

impl BearerTokenAuth {
    /// Reads the tokens.
    ///
    /// # Errors
    /// When their file cannot be read or holds none.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let header = HeaderName::from_bytes(config.header.as_bytes())
            .map_err(|_| Error::Header(config.header.clone()))?;
        let source = TokenSource {
            tokens: config.tokens.clone(),
            filename: config.filename.clone(),
        };
        Ok(Self {
            header,
            scheme: config.scheme.as_str().into(),
            tokens: Reloaded::new(source)?,
        })
    }

    /// Whether one of the tokens is among these headers.
    ///
    /// # Errors
    /// When none is.
    pub async fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let tokens = self.tokens.current().await;
        let mut why = Why::Missing;
        for value in headers.get_all(&self.header) {
            why = match self.token(value.as_bytes()) {
                Some(token) if tokens.knows(token) => return Ok(()),
                Some(_) => Why::Unknown,
                None => Why::Scheme,
            };
        }
        Err(Denied {
            why,
            header: self.header.clone(),
            scheme: Arc::clone(&self.scheme),
        })
    }

    /// What stands behind the scheme, which is compared without case as HTTP has it.
    fn token<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        let scheme = self.scheme.as_bytes();
        let (given, rest) = value.split_at_checked(scheme.len())?;
        if scheme.is_empty() {
            return Some(rest.trim_ascii());
        }
        let token = rest.trim_ascii();
        let apart = rest.first() == Some(&b' ') && !token.is_empty();
        (given.eq_ignore_ascii_case(scheme) && apart).then_some(token)
    }

    /// The token a client sends, so that it can be taken out of what others say.
    pub fn client_token(&self) -> Option<SecretString> {
        self.tokens.last().first.clone()
    }

    /// The header a client sends: with the first token, and marked so that it is not shown.
    pub fn client_header(&self) -> Option<(HeaderName, HeaderValue)> {
        let tokens = self.tokens.last();
        let token = tokens.first.as_ref()?.expose_secret();
        let text = match &*self.scheme {
            "" => token.to_owned(),
            scheme => format!("{scheme} {token}"),
        };
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some((self.header.clone(), value))
    }

    /// Reads the file again if it was not looked at for a while, before a client asks for its token.
    pub async fn refresh(&self) {
        self.tokens.current().await;
    }
}

/// The tokens of a file, one a line; what stands behind a blank is a remark.
fn read(path: &Path) -> Result<Vec<SecretString>, Error> {
    let failed = |why| Error::Read {
        path: path.to_owned(),
        why,
    };
    let wrong = |why: String| Error::Content {
        path: path.to_owned(),
        why,
    };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(wrong(format!("has more than {FILE_BYTES} bytes")));
    }
    let mut tokens: Vec<SecretString> = Vec::new();
    for (line, bytes) in text.split(|byte| *byte == b'\n').enumerate() {
        let mut words = bytes.split(u8::is_ascii_whitespace);
        let Some(word) = words.find(|word| !word.is_empty()) else {
            continue;
        };
        let word = std::str::from_utf8(word)
            .ok()
            .filter(|word| word.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| {
                wrong(format!(
                    "has a character that no token has in line {}",
                    line + 1
                ))
            })?;
        tokens.push(word.into());
    }
    match tokens.len() {
        0 => Err(wrong("holds no token, write one a line".to_owned())),
        1..=MAX_TOKENS => Ok(tokens),
        _ => Err(wrong(format!("holds more than {MAX_TOKENS} tokens"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(scheme: &str, tokens: &[&str]) -> BearerTokenAuth {
        BearerTokenAuth::new(&Config {
            header: "X-Token".to_owned(),
            scheme: scheme.to_owned(),
            tokens: tokens.iter().map(|token| (*token).into()).collect(),
            filename: None,
        })
        .unwrap()
    }

    async fn why(auth: &BearerTokenAuth, value: Option<&'static str>) -> Option<Why> {
        let value = value.map(|value| {
            (
                HeaderName::from_static("x-token"),
                HeaderValue::from_static(value),
            )
        });
        let headers = value.into_iter().collect();
        auth.check(&headers).await.err().map(|denied| denied.why)
    }

    #[tokio::test]
    async fn knows_its_tokens() {
        let bearer = auth("Bearer", &["one", "two"]);
        for (value, wanted) in [
            ("Bearer one", None),
            ("bearer two", None),
            ("Bearer  one ", None),
            ("Bearer", Some(Why::Scheme)),
            ("Bearer ", Some(Why::Scheme)),
            ("Bearerone", Some(Why::Scheme)),
            ("one", Some(Why::Scheme)),
            ("Basic one", Some(Why::Scheme)),
            ("Bearer on", Some(Why::Unknown)),
            ("Bearer One", Some(Why::Unknown)),
            ("Bearer one two", Some(Why::Unknown)),
        ] {
            assert_eq!(why(&bearer, Some(value)).await, wanted, "{value}");
        }
        assert_eq!(why(&bearer, None).await, Some(Why::Missing));
        let bare = auth("", &["one"]);
        for (value, wanted) in [
            ("one", None),
            ("", Some(Why::Unknown)),
            ("Bearer one", Some(Why::Unknown)),
        ] {
            assert_eq!(why(&bare, Some(value)).await, wanted, "{value}");
        }
    }

    #[test]
    fn a_client_sends_the_first_and_shows_none() {
        let (name, value) = auth("Bearer", &["one", "two"]).client_header().unwrap();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("x-token", &b"Bearer one"[..])
        );
        assert!(value.is_sensitive());
        assert!(!format!("{value:?} {:?}", auth("", &["s3cret"])).contains("s3cret"));
        assert!(!format!("{value:?}").contains("one"));
        assert_eq!(auth("", &["one"]).client_header().unwrap().1, "one");
    }

    #[test]
    fn reads_a_file_of_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let reason = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            match read(&path) {
                Ok(tokens) => tokens
                    .iter()
                    .map(|token| token.expose_secret().to_owned())
                    .collect::<Vec<_>>()
                    .join(","),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(
            reason(b"\n one\r\n\n  \ntwo of somebody\nthree"),
            "one,two,three"
        );
        for (text, wanted) in [
            (&b""[..], "holds no token"),
            (b"\n \r\n", "holds no token"),
            (b"one\n\xff\n", "no token has in line 2"),
            ("\u{fc}".as_bytes(), "no token has in line 1"),
            (&b"a\n".repeat(1001), "more than 1000 tokens"),
            (&vec![b'a'; 300_000], "has more than 262144 bytes"),
        ] {
            let reason = reason(text);
            assert!(reason.contains(wanted), "{reason}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("cannot read"));
    }
}
