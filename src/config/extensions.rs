//! Extensions: keys, defaults and what must hold.
use super::{
    ExtensionConfig, keys,
    read::{Place, Section},
    receivers::listen,
    server_tls::server_tls,
};
use crate::extension::{bearer_token_auth, health_check};

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
            .filter_map(super::read::Value::secret)
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
    bearer_token_auth::Config {
        header: section.text("header", default.header),
        scheme: section.text("scheme", default.scheme),
        tokens,
        filename,
    }
}
