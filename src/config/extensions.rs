//! Extensions: keys, defaults and what must hold, also of those who refer to one.
use std::collections::BTreeMap;

use http::HeaderName;

use super::{
    ComponentId, ExtensionConfig,
    components::EXTENSIONS,
    keys,
    read::{Place, Section},
    receivers::listen,
    server_tls::server_tls,
    service::State,
    state,
};
use crate::extension::{bearer_token_auth, health_check};

/// What can be referred to as an authenticator.
pub(crate) struct Authenticators<'a> {
    pub(crate) defined: &'a BTreeMap<ComponentId, Option<ExtensionConfig>>,
    /// `service::extensions`.
    pub(crate) started: &'a [ComponentId],
}

impl Authenticators<'_> {
    /// Reads `auth` of a section: the extension that it names.
    pub(crate) fn read(&self, parent: &Section<'_>) -> Option<ComponentId> {
        // Nothing behind the key is not the same as no key: it must not leave a door open.
        let section = parent.place("auth")?.section(&keys::AUTH);
        let value = section.required("authenticator")?;
        let id = value.id()?;
        match state(self.defined, &id) {
            State::Told => return None,
            State::Missing if EXTENSIONS.known.contains(&id.kind()) => value.fail(format_args!(
                "extension {id} is not defined, add it under extensions"
            )),
            State::Missing => value.fail(EXTENSIONS.unknown(id.kind())),
            State::Good if id.kind() != "bearertokenauth" => value.fail(format_args!(
                "{id} is no authenticator, name a bearertokenauth"
            )),
            State::Good if !self.started.contains(&id) => value.fail(format_args!(
                "extension {id} is not started, add it to service::extensions"
            )),
            State::Good => {}
        }
        Some(id)
    }

    /// The same with the settings of the extension.
    pub(crate) fn config(&self, parent: &Section<'_>) -> Option<bearer_token_auth::Config> {
        match self.defined.get(&self.read(parent)?) {
            Some(Some(ExtensionConfig::BearerTokenAuth(config))) => Some(config.clone()),
            _ => None,
        }
    }
}

/// Reads one extension of a known type.
pub(crate) fn extension(kind: &str, place: Place<'_>) -> Option<ExtensionConfig> {
    Some(match kind {
        "bearertokenauth" => ExtensionConfig::BearerTokenAuth(bearer_token_auth(
            &place.section(&keys::BEARER_TOKEN_AUTH),
        )),
        "health_check" => {
            ExtensionConfig::HealthCheck(health_check(&place.section(&keys::HEALTH_CHECK)))
        }
        _ => return None,
    })
}

fn health_check(section: &Section<'_>) -> health_check::Config {
    let default = health_check::Config::default();
    let path = section.text("path", default.path);
    if !path.starts_with('/')
        && let Some(value) = section.value("path")
    {
        value.expected("expected a path such as /");
    }
    let body = section.section("response_body", &keys::RESPONSE_BODY);
    let text = |key| body.value(key).map(|value| value.text);
    health_check::Config {
        endpoint: listen(section).unwrap_or(default.endpoint),
        path,
        healthy_body: text("healthy"),
        unhealthy_body: text("unhealthy"),
        tls: server_tls(section),
    }
}

fn bearer_token_auth(section: &Section<'_>) -> bearer_token_auth::Config {
    let default = bearer_token_auth::Config::default();
    let tokens: Vec<_> = match section.values("tokens") {
        Some(values) => values
            .iter()
            .filter_map(super::value::Value::secret)
            .collect(),
        None => section
            .value("token")
            .and_then(|value| value.secret())
            .into_iter()
            .collect(),
    };
    let filename = section.path("filename");
    let ways = ["token", "tokens", "filename"];
    match ways.iter().filter(|way| section.get(way).is_some()).count() {
        0 => section.fail("needs a token, tokens or a filename to read tokens from"),
        1 => {}
        _ => section.fail("token, tokens and filename exclude each other, keep one"),
    }
    let header = section.text("header", default.header);
    if HeaderName::from_bytes(header.as_bytes()).is_err()
        && let Some(value) = section.value("header")
    {
        value.fail("expected the name of a header");
    }
    let scheme = section.text("scheme", default.scheme);
    if !scheme.chars().all(|letter| letter.is_ascii_graphic())
        && let Some(value) = section.value("scheme")
    {
        // Who writes the token behind it shall not read it in a log.
        value.fail("expected a word such as Bearer, without the token");
    }
    bearer_token_auth::Config {
        header,
        scheme,
        tokens,
        filename,
    }
}
