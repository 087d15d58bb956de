//! Which proxy a request goes through, as Go reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, and so
//! the Collector. Pure.
//!
//! The rules are those of `golang.org/x/net/http/httpproxy`. Names of variables are read in upper
//! case first, then in lower case. `NO_PROXY` is a list with commas of host names, `.domain` or
//! `*.domain` (its subdomains alone), `domain` (itself and its subdomains), addresses, networks (CIDR),
//! each of the first four with an optional `:port`, or `*` for everything. `localhost` and loopback
//! addresses never go through a proxy. `HTTP_PROXY` is not for a CGI program, whose requests could set
//! it.

use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

/// The proxies that the environment names.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Their URLs may hold a password.
    http: Option<SecretString>,
    https: Option<SecretString>,
    no_proxy: String,
    is_cgi: bool,
}

/// Why a proxy cannot be used. Does not show it: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is no URL.
    #[error("environment variable {0} is no URL of a proxy, expected such as http://proxy:3128")]
    Url(&'static str),
    /// The program would trust a header of a request.
    #[error(
        "environment variable HTTP_PROXY is not used where REQUEST_METHOD is set, as in CGI: \
         unset one"
    )]
    Cgi,
    /// There is no client for this protocol.
    #[error("environment variable {0} names a proxy that is not http:// or https://")]
    Scheme(&'static str),
}

impl Proxies {
    /// Those that a function knows by the names of variables.
    pub fn of(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let of = |upper: &str| {
            let lower = upper.to_ascii_lowercase();
            let value = variable(upper).filter(|value| !value.is_empty());
            value.or_else(|| variable(&lower).filter(|value| !value.is_empty()))
        };
        Self {
            http: of("HTTP_PROXY").map(SecretString::from),
            https: of("HTTPS_PROXY").map(SecretString::from),
            no_proxy: of("NO_PROXY").unwrap_or_default(),
            is_cgi: variable("REQUEST_METHOD").is_some_and(|method| !method.is_empty()),
        }
    }

    /// The proxy for requests to a URL; `None`: they go straight there.
    ///
    /// # Errors
    /// When the variable for it cannot be used.
    pub fn of_url(&self, url: &Url) -> Result<Option<Url>, Error> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        self.of_host(url.scheme() == "https", host, port)
    }

    /// The same for a host, which may be an address, with or without brackets.
    ///
    /// # Errors
    /// When the variable for it cannot be used.
    pub fn of_host(&self, secure: bool, host: &str, port: u16) -> Result<Option<Url>, Error> {
        let (name, proxy) = if secure {
            ("HTTPS_PROXY", &self.https)
        } else {
            ("HTTP_PROXY", &self.http)
        };
        let Some(proxy) = proxy else {
            return Ok(None);
        };
        if !secure && self.is_cgi {
            return Err(Error::Cgi);
        }
        if !self.uses_proxy(host, port) {
            return Ok(None);
        }
        parse(proxy.expose_secret(), name).map(Some)
    }

    /// Whether requests to a host go through a proxy at all.
    fn uses_proxy(&self, host: &str, port: u16) -> bool {
        let host = host.trim().trim_matches(['[', ']']).to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        if host.is_empty()
            || host == "localhost"
            || address.is_some_and(|address| address.to_canonical().is_loopback())
        {
            return false;
        }
        let mut entries = self.no_proxy.split(',').map(str::trim);
        !entries.any(|entry| matches(entry, &host, address, port))
    }
}

/// The URL of a proxy, which may be written without `http://`.
fn parse(text: &str, name: &'static str) -> Result<Url, Error> {
    let url = Url::parse(text).ok().filter(|url| {
        url.has_host() && matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h")
    });
    let url = url.or_else(|| Url::parse(&format!("http://{text}")).ok());
    let url = url.filter(Url::has_host).ok_or(Error::Url(name))?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err(Error::Scheme(name))
    }
}

/// Whether an entry of `NO_PROXY` holds for a host, in lower case, its address if it is one, and a
/// port.
fn matches(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    let entry = entry.to_ascii_lowercase();
    if entry.is_empty() {
        return false;
    }
    if entry == "*" {
        return true;
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return address.is_some_and(|address| network.contains(&address.to_canonical()));
    }
    let (name, wanted) = split_port(&entry);
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let Ok(own) = name.parse::<IpAddr>() {
        return address.is_some_and(|address| address.to_canonical() == own.to_canonical());
    }
    // As in Go, there must be a name.
    let name = name
        .strip_prefix('*')
        .filter(|rest| rest.starts_with('.'))
        .unwrap_or(name);
    match name.strip_prefix('.') {
        Some("") => false,
        Some(_) => host.ends_with(name),
        None if name.is_empty() => false,
        None => {
            host == name
                || host
                    .strip_suffix(name)
                    .is_some_and(|before| before.ends_with('.'))
        }
    }
}

/// The name and the port of an entry. An IPv6 address has a port only behind brackets.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((name, "")) => (name, None),
            Some((name, port)) => match port.strip_prefix(':').map(str::parse) {
                Some(Ok(port)) => (name, Some(port)),
                _ => (entry, None),
            },
            None => (entry, None),
        };
    }
    match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::of(&|name| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(variables: &[(&str, &str)], url: &str) -> Result<Option<String>, Error> {
        let url = Url::parse(url).unwrap();
        let proxy = proxies(variables).of_url(&url)?;
        Ok(proxy.map(|proxy| proxy.to_string()))
    }

    /// The cases of Go's own test of `ProxyFromEnvironment`.
    #[expect(clippy::too_many_lines, reason = "a table")]
    #[test]
    fn proxies_are_chosen_as_go_does() {
        let proxy = |text: &str| Ok(Some(text.to_owned()));
        for (variables, url, wanted) in [
            (
                vec![("HTTP_PROXY", "127.0.0.1:8080")],
                "http://example.com/",
                proxy("http://127.0.0.1:8080/"),
            ),
            (
                vec![("HTTP_PROXY", "cache.corp.example.com:1234")],
                "http://example.com/",
                proxy("http://cache.corp.example.com:1234/"),
            ),
            (
                vec![("HTTP_PROXY", "cache.corp.example.com")],
                "http://example.com/",
                proxy("http://cache.corp.example.com/"),
            ),
            (
                vec![("HTTP_PROXY", "https://cache.corp.example.com")],
                "http://example.com/",
                proxy("https://cache.corp.example.com/"),
            ),
            (
                vec![("HTTP_PROXY", "http://127.0.0.1:8080")],
                "http://example.com/",
                proxy("http://127.0.0.1:8080/"),
            ),
            (
                vec![
                    ("HTTP_PROXY", "http.proxy.tld"),
                    ("HTTPS_PROXY", "secure.proxy.tld"),
                ],
                "https://secure.tld/",
                proxy("http://secure.proxy.tld/"),
            ),
            (
                vec![
                    ("HTTP_PROXY", "http.proxy.tld"),
                    ("HTTPS_PROXY", "https://secure.proxy.tld"),
                ],
                "https://secure.tld/",
                proxy("https://secure.proxy.tld/"),
            ),
            (
                vec![("HTTP_PROXY", "http.proxy.tld")],
                "https://secure.tld/",
                Ok(None),
            ),
            (
                vec![("HTTP_PROXY", "http.proxy.tld"), ("REQUEST_METHOD", "GET")],
                "http://insecure.tld/",
                Err(Error::Cgi),
            ),
            (
                vec![
                    ("HTTPS_PROXY", "https://cache.corp.example.com"),
                    ("REQUEST_METHOD", "GET"),
                ],
                "https://secure.tld/",
                proxy("https://cache.corp.example.com/"),
            ),
            (
                vec![("http_proxy", "http.proxy.tld")],
                "http://example.com/",
                proxy("http://http.proxy.tld/"),
            ),
            (
                vec![("HTTP_PROXY", "upper.tld"), ("http_proxy", "lower.tld")],
                "http://example.com/",
                proxy("http://upper.tld/"),
            ),
            (
                vec![("HTTP_PROXY", ""), ("http_proxy", "lower.tld")],
                "http://example.com/",
                proxy("http://lower.tld/"),
            ),
            (vec![], "http://example.com/", Ok(None)),
            (vec![("HTTP_PROXY", "")], "http://example.com/", Ok(None)),
            (
                vec![("HTTP_PROXY", "proxy"), ("NO_PROXY", "example.com")],
                "http://example.com/",
                Ok(None),
            ),
            (
                vec![("HTTP_PROXY", "proxy"), ("NO_PROXY", ".example.com")],
                "http://example.com/",
                proxy("http://proxy/"),
            ),
            (
                vec![("HTTP_PROXY", "proxy"), ("NO_PROXY", "ample.com")],
                "http://example.com/",
                proxy("http://proxy/"),
            ),
            (
                vec![("HTTP_PROXY", "proxy"), ("NO_PROXY", "example.com")],
                "http://foo.example.com/",
                Ok(None),
            ),
            (
                vec![("HTTP_PROXY", "proxy"), ("NO_PROXY", ".foo.com")],
                "http://example.com/",
                proxy("http://proxy/"),
            ),
            (vec![("HTTP_PROXY", "proxy")], "http://localhost/", Ok(None)),
            (
                vec![("HTTP_PROXY", "socks5://proxy")],
                "http://example.com/",
                Err(Error::Scheme("HTTP_PROXY")),
            ),
            (
                vec![("HTTPS_PROXY", "[")],
                "https://example.com/",
                Err(Error::Url("HTTPS_PROXY")),
            ),
        ] {
            assert_eq!(chosen(&variables, url), wanted, "{variables:?} {url}");
        }
    }

    /// The cases of Go's own test of `NO_PROXY`.
    #[test]
    fn exceptions_are_those_of_go() {
        let list = "foobar.com, .barbaz.net, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, \
                    2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64";
        for (host, port, through) in [
            ("localhost", 80, false),
            ("127.0.0.1", 80, false),
            ("127.0.0.2", 80, false),
            ("[::1]", 80, false),
            ("[::2]", 80, true),
            ("192.168.1.1", 80, false),
            ("192.168.1.2", 80, true),
            ("192.168.1.2", 81, false),
            ("192.168.1.3", 80, false),
            ("192.168.1.4", 80, true),
            ("10.0.0.2", 80, false),
            ("10.0.0.4", 80, true),
            ("[2001:db8::52:0:1]", 80, false),
            ("[2001:db8::52:0:2]", 80, true),
            ("[2001:db8::52:0:2]", 443, false),
            ("[2001:db8::52:0:3]", 80, false),
            ("[2002:db8:a::123]", 80, false),
            ("[fe80::424b:c8be:1643:a1b6]", 80, true),
            ("barbaz.net", 80, true),
            ("www.barbaz.net", 80, false),
            ("foobar.com", 80, false),
            ("www.foobar.com", 80, false),
            ("FOOBAR.com", 80, false),
            ("foofoobar.com", 80, true),
            ("baz.com", 80, true),
            ("localhost.net", 80, true),
            ("local.localhost", 80, true),
            ("barbarbaz.net", 80, true),
        ] {
            let proxies = proxies(&[("NO_PROXY", list)]);
            assert_eq!(proxies.uses_proxy(host, port), through, "{host}:{port}");
        }
        for (entry, host, port, through) in [
            ("*", "example.com", 80, false),
            ("*", "192.0.2.7", 8088, false),
            (" * ", "192.0.2.7", 8088, false),
            ("a, *", "192.0.2.7", 8088, false),
            ("*.foo.com", "foo.com", 80, true),
            ("*.foo.com", "a.foo.com", 80, false),
            ("foo.com:8088", "foo.com", 8088, false),
            ("foo.com:8088", "a.foo.com", 8088, false),
            ("foo.com:8088", "foo.com", 8089, true),
            (".foo.com:8088", "a.foo.com", 8088, false),
            (".foo.com:8088", "a.foo.com", 80, true),
            ("192.0.2.7:8088", "192.0.2.7", 8088, false),
            ("192.0.2.7:8088", "192.0.2.7", 80, true),
            ("192.0.2.0/24", "192.0.2.7", 80, false),
            ("192.0.2.0/24", "splunk.example", 80, true),
            ("", "example.com", 80, true),
            (",,", "example.com", 80, true),
            (".", "example.com", 80, true),
            (":80", "example.com", 80, true),
            ("::", "example.com", 80, true),
            ("[", "example.com", 80, true),
        ] {
            let proxies = proxies(&[("NO_PROXY", entry)]);
            assert_eq!(
                proxies.uses_proxy(host, port),
                through,
                "{entry:?} {host}:{port}"
            );
        }
    }

    #[test]
    fn no_password_is_shown() {
        let proxies = proxies(&[("HTTPS_PROXY", "u:pa55word@[")]);
        let error = proxies.of_host(true, "example.com", 443).unwrap_err();
        assert!(!format!("{proxies:?} {error} {error:?}").contains("pa55word"));
    }
}
