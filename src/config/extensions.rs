//! Extensions: their settings, and what must hold, also of what refers to one.
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use http::HeaderName;
use secrecy::SecretString;

use super::{
    components::EXTENSIONS,
    forms::{Boolean, Mib, OptionalPath, Own, Part, ReadBy, Text, Time, Unset, plain},
    hints::ABSENT,
    id::ComponentId,
    listen::LISTEN,
    model::ExtensionConfig,
    read::{Place, Section},
    server_tls::{EXAMPLE, ServerTls},
    service::State,
    settings::settings,
    value::Value,
};
use crate::{
    extension::{bearer_token_auth, file_storage, health_check},
    visible,
};

/// What can be referred to as an authenticator.
pub(crate) struct Authenticators<'a> {
    pub(crate) defined: &'a BTreeMap<ComponentId, Option<ExtensionConfig>>,
    /// `service::extensions`.
    pub(crate) started: &'a [ComponentId],
}

impl Authenticators<'_> {
    /// Reads `auth` of a section: the extension that it names.
    pub(crate) fn read(&self, parent: &Section<'_>) -> Option<ComponentId> {
        // A key without a value is not an absent key: it must not disable authentication.
        let section = parent.place("auth")?.section(&AUTH.table);
        let value = section.required("authenticator")?;
        let id = value.id()?;
        match State::of(self.defined, &id) {
            State::Reported => return None,
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

/// Checks `storage` of a section: the extension that it names.
pub(crate) fn check_storage(section: &Section<'_>, known: &Authenticators<'_>) {
    let Some(value) = section
        .get("storage")
        .and_then(|_| section.value("storage"))
    else {
        return;
    };
    let Some(id) = value.id() else {
        return;
    };
    match State::of(known.defined, &id) {
        State::Missing => value.fail(format_args!(
            "extension {id} is not defined, add it under extensions"
        )),
        State::Good if id.kind() != "file_storage" => {
            value.fail(format_args!("{id} is no storage, name a file_storage"));
        }
        State::Good if !known.started.contains(&id) => value.fail(format_args!(
            "extension {id} is not started, add it to service::extensions"
        )),
        State::Reported | State::Good => {}
    }
}

settings! {
    AUTH: () {
        authenticator by authenticators: ReadBy("component id"),
            "A bearertokenauth extension, which is under service::extensions. A receiver accepts its \
             tokens only; an exporter sends its first token with every request.",
            required("bearertokenauth");
    }
    hints {
        "request_params": Remove("the token is looked for in the header of the extension");
    }
}

settings! {
    HEALTH_CHECK: health_check::Config {
        endpoint: LISTEN, "Where to listen, host:port.", place;
        path: Own {
                form: "path of a URL",
                read: |section, key| absolute(section, key, "expected a path such as /"),
                text: |path| plain(path),
            },
            "The path that is answered, with all below it when it ends in a slash.", place;
        response_body => self: Part(&RESPONSE_BODY), "";
        tls: ServerTls, "", shown_in("tls"), like("a receiver, see otlp/tls"), example(EXAMPLE);
    }
    hints {
        "check_collector_pipeline": Remove("exporters are looked at as it is"), kept [];
        "component_health": Remove("exporters are looked at as it is");
        "use_v2": Remove(ABSENT);
        "grpc": Remove(ABSENT);
        "http": Use("write endpoint and path without it");
        "keepalive": Remove(ABSENT);
        "transport": Remove("always tcp"), kept ["tcp"];
        "auth": Remove(ABSENT);
        "cors": Remove(ABSENT);
        "read_header_timeout": Remove("2s");
        "read_timeout": Remove(ABSENT);
        "write_timeout": Remove(ABSENT);
        "idle_timeout": Remove("30s");
        "response_headers": Remove(ABSENT);
        "middlewares": Remove(ABSENT);
        "include_metadata": Remove(ABSENT), kept ["false"];
        "max_request_body_size": Remove(ABSENT);
        "compression_algorithms": Remove(ABSENT);
    }
}

settings! {
    RESPONSE_BODY: health_check::Config {
        healthy => healthy_body: Unset(Text), "Body while ready, instead of the Collector's JSON.";
        unhealthy => unhealthy_body: Unset(Text), "Body while not ready.";
    }
}

settings! {
    BEARER_TOKEN_AUTH: bearer_token_auth::Config {
        header: Own {
                form: "name of a header",
                read: |section, key| {
                    let value = section.value(key)?;
                    if HeaderName::from_bytes(value.text.as_bytes()).is_err() {
                        value.fail("expected the name of a header");
                    }
                    Some(value.text)
                },
                text: |name| plain(name),
            },
            "The header that carries the token.";
        scheme: Own {
                form: "word",
                read: |section, key| {
                    let value = section.value(key)?;
                    if !value.text.chars().all(|letter| letter.is_ascii_graphic()) {
                        // Who writes the token behind it shall not read it in a log.
                        value.fail("expected a word such as Bearer, without the token");
                    }
                    Some(value.text)
                },
                text: |word| plain(word),
            },
            "The word before the token; empty: the token alone.";
        token by tokens: ReadBy("text"), "The token.",
            required_or("tokens or filename", "${env:AUDITWATCH_TOKEN}"), secret;
        tokens: Own {
                form: "list of texts",
                read: |section, _| Some(tokens(section)),
                text: |_| String::new(),
            },
            "Several tokens, each of them accepted.", secret;
        filename: OptionalPath, "A file with tokens, one a line. It is read again when it has changed.",
            place;
    }
    check one_source_of_tokens
}

settings! {
    FILE_STORAGE: file_storage::Config {
        directory: Own {
                form: "path",
                read: |section, key| section.path(key),
                text: |path: &PathBuf| plain(&visible::path(path).to_string()),
            },
            "Where the files are. One process uses it at a time.", place;
        create_directory: Boolean,
            "Create the directory, for the user of the process alone.";
        timeout: Time(Duration::from_millis(10)..=Duration::from_mins(1)),
            "How long a write may take. After that, requests with hits are refused until writes succeed \
             again.";
        max_size_mib => max_size: Mib(1 << 20),
            "What the log and the findings that are not delivered may take, in MiB, for each pipeline. \
             Above that, requests with hits are refused. The state takes more beside it.";
    }
    hints {
        "fsync": Remove("every write is synced before it is acknowledged"), kept ["true"];
        "compaction": Remove("the log is cut behind each snapshot, and its space is used again");
        "directory_permissions": Remove("0700"), kept ["0700"];
        "recreate": Remove("a damaged file is set aside, and a new one is begun");
    }
}

/// Reads one extension of a known type.
pub(crate) fn extension(kind: &str, place: Place<'_>) -> Option<ExtensionConfig> {
    Some(match kind {
        "bearertokenauth" => ExtensionConfig::BearerTokenAuth(BEARER_TOKEN_AUTH.at(place)),
        "health_check" => ExtensionConfig::HealthCheck(HEALTH_CHECK.at(place)),
        "file_storage" => ExtensionConfig::FileStorage(FILE_STORAGE.at(place)),
        _ => return None,
    })
}

/// A path of a URL.
pub(crate) fn absolute(section: &Section<'_>, key: &str, expected: &str) -> Option<String> {
    let value = section.value(key)?;
    if !value.text.starts_with('/') {
        value.expected(expected);
    }
    Some(value.text)
}

fn tokens(section: &Section<'_>) -> Vec<SecretString> {
    match section.values("tokens") {
        Some(values) => values.iter().filter_map(Value::secret).collect(),
        None => section
            .value("token")
            .and_then(|value| value.secret())
            .into_iter()
            .collect(),
    }
}

fn one_source_of_tokens(section: &Section<'_>, _: &mut bearer_token_auth::Config) {
    let ways = ["token", "tokens", "filename"];
    match ways.iter().filter(|way| section.get(way).is_some()).count() {
        0 => section.fail("needs a token, tokens or a filename to read tokens from"),
        1 => {}
        _ => section.fail("token, tokens and filename exclude each other, keep one"),
    }
}
