//! `host:port` as Go reads it, for what listens and for what is dialled: a host may be absent, a name,
//! an address of either family, or one with a zone.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// The port; 0 is one that is free, where one listens.
    pub port: u16,
}

/// The host of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// None, `0.0.0.0` or `::`: all addresses of both families, as Go has it.
    All,
    /// An address. One of IPv4 that is written as IPv6 is one of IPv4.
    Address(IpAddr),
    /// An address that is local to a link, and the interface or the number of the link.
    Zoned(Ipv6Addr, String),
    /// A name.
    Name(String),
}

/// What is wrong with an endpoint, as a sentence that begins with `expected` or says what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

impl Endpoint {
    /// Reads an endpoint to listen on.
    ///
    /// # Errors
    /// When it has not the form of one.
    pub fn to_listen(text: &str) -> Result<Self, Invalid> {
        if text.contains("://") {
            return Err(Invalid(
                "expected host:port without a scheme, such as 127.0.0.1:4317",
            ));
        }
        let form =
            Invalid("expected host:port, such as 127.0.0.1:4317, or :4317 for all addresses");
        let (host, port) = text.rsplit_once(':').ok_or(form)?;
        let port = number(port).ok_or(Invalid("expected host:port with a port from 0 to 65535"))?;
        let host = Host::read(host, true)?.ok_or(form)?;
        Ok(Self { host, port })
    }

    /// Reads an endpoint to connect to.
    ///
    /// # Errors
    /// When it has not the form of one.
    pub fn to_dial(text: &str) -> Result<Self, Invalid> {
        let form = Invalid("expected host:port, such as collector:4317");
        let (host, port) = text.rsplit_once(':').ok_or(form)?;
        let port = number(port).filter(|port| *port != 0);
        let port = port.ok_or(Invalid("expected host:port with a port from 1 to 65535"))?;
        let host = Host::read(host, false)?.ok_or(form)?;
        if let Host::Zoned(..) = host {
            return Err(Invalid(
                "an address with a zone cannot be sent to, use a name that resolves to it",
            ));
        }
        Ok(Self { host, port })
    }

    /// A host to listen on that has a key of its own, with or without brackets.
    ///
    /// # Errors
    /// When it is no host.
    pub fn of(host: &str, port: u16) -> Result<Self, Invalid> {
        let form = Invalid("expected a host, such as localhost or 0.0.0.0");
        let bare = host.contains(':') && !host.starts_with('[');
        let read = if bare {
            Host::read(&format!("[{host}]"), true)
        } else {
            Host::read(host, true)
        };
        // A variable that is empty opens no port to everybody.
        let host = read.ok().flatten().filter(|_| !host.is_empty());
        let host = host.ok_or(form)?;
        Ok(Self { host, port })
    }
}

/// A port in digits alone.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl Host {
    /// Reads what is before the port. `None`: neither an address nor a name.
    fn read(text: &str, may_be_absent: bool) -> Result<Option<Self>, Invalid> {
        if let Some(inside) = text.strip_prefix('[') {
            let inside = inside.strip_suffix(']').and_then(Self::address);
            return inside.map(Some).ok_or(Invalid(
                "expected an address between the brackets, such as [::1]:4317",
            ));
        }
        if text.contains(':') {
            return Err(Invalid(
                "an IPv6 address needs brackets, such as [2001:db8::9]:4317",
            ));
        }
        if text.is_empty() {
            return Ok(may_be_absent.then_some(Self::All));
        }
        if let Some(address) = Self::address(text) {
            return Ok(Some(address));
        }
        // Underscores are no part of host names, and in use.
        let name = |letter: char| letter.is_alphanumeric() || "-._".contains(letter);
        Ok(text.chars().all(name).then(|| Self::Name(text.to_owned())))
    }

    fn address(text: &str) -> Option<Self> {
        let (address, zone) = match text.rsplit_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        match (address.to_canonical(), zone) {
            (_, Some(zone)) if !is_zone(zone) => None,
            (IpAddr::V6(address), Some(zone)) if address.is_unicast_link_local() => {
                Some(Self::Zoned(address, zone.to_owned()))
            }
            (IpAddr::V4(_), Some(_)) => None,
            (address, _) if address.is_unspecified() => Some(Self::All),
            // The kernel knows zones of links alone, and so does Go in effect.
            (address, _) => Some(Self::Address(address)),
        }
    }
}

/// Whether a text may name an interface, or be the number of one.
fn is_zone(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|letter| letter.is_ascii_graphic() && !"/%[]".contains(letter))
}

/// A URL whose host may be an address of IPv4 in brackets, as charts write all addresses and Go takes
/// them: without those brackets.
pub fn plain_url(text: &str) -> String {
    let bracketed = text
        .split_once("://")
        .and_then(|(scheme, rest)| Some((scheme, rest.split_once('[')?)))
        .and_then(|(scheme, (before, rest))| Some((scheme, before, rest.split_once(']')?)));
    match bracketed {
        Some((scheme, before, (host, after)))
            if !before.contains(['/', '?', '#']) && host.parse::<Ipv4Addr>().is_ok() =>
        {
            format!("{scheme}://{before}{host}{after}")
        }
        _ => text.to_owned(),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            Host::All => write!(f, "[::]:{port}"),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}:{port}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{port}"),
            Host::Zoned(address, zone) => write!(f, "[{address}%{zone}]:{port}"),
            Host::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_to_listen_on_are_read_as_go_does() {
        for (text, wanted) in [
            ("127.0.0.1:4317", "127.0.0.1:4317"),
            ("[192.0.2.9]:4317", "192.0.2.9:4317"),
            ("0.0.0.0:0", "[::]:0"),
            ("[0.0.0.0]:1", "[::]:1"),
            (":4317", "[::]:4317"),
            ("[::]:1", "[::]:1"),
            ("[::ffff:0.0.0.0]:1", "[::]:1"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1"),
            ("[::1]:4317", "[::1]:4317"),
            ("[2001:DB8::9]:4317", "[2001:db8::9]:4317"),
            ("[fe80::1%eth0]:4317", "[fe80::1%eth0]:4317"),
            ("[fe80::1%2]:4317", "[fe80::1%2]:4317"),
            ("[::1%lo]:4317", "[::1]:4317"),
            ("localhost:4317", "localhost:4317"),
            ("my_host.example:65535", "my_host.example:65535"),
        ] {
            let read = Endpoint::to_listen(text).map(|endpoint| endpoint.to_string());
            assert_eq!(read.as_deref(), Ok(wanted), "{text}");
        }
        for (text, wanted) in [
            ("", "host:port"),
            ("localhost", "host:port"),
            ("http://a:1", "without a scheme"),
            ("a:", "port from 0"),
            ("a:65536", "port from 0"),
            ("a:+1", "port from 0"),
            (
                "2001:db8::9:4317",
                "needs brackets, such as [2001:db8::9]:4317",
            ),
            ("::4317", "needs brackets"),
            ("[x]:1", "between the brackets"),
            ("[localhost]:1", "between the brackets"),
            ("[]:1", "between the brackets"),
            ("[::1:1", "between the brackets"),
            ("[192.0.2.9%eth0]:1", "between the brackets"),
            ("[fe80::1%]:1", "between the brackets"),
            ("[fe80::1%a/b]:1", "between the brackets"),
            ("[fe80::1%a b]:1", "between the brackets"),
            ("::1]:1", "needs brackets"),
            ("a]:1", "host:port"),
            ("a b:1", "host:port"),
            ("a/b:1", "host:port"),
        ] {
            let why = Endpoint::to_listen(text).unwrap_err();
            assert!(why.0.contains(wanted), "{text}: {why}");
        }
    }

    #[test]
    fn endpoints_to_dial_have_a_host_and_a_port() {
        for (text, wanted) in [
            ("collector:4317", Ok("collector:4317")),
            ("[192.0.2.9]:4317", Ok("192.0.2.9:4317")),
            ("[::1]:4317", Ok("[::1]:4317")),
            (":4317", Err("host:port")),
            ("a:0", Err("port from 1")),
            ("[fe80::1%eth0]:4317", Err("zone")),
        ] {
            let read = Endpoint::to_dial(text).map(|endpoint| endpoint.to_string());
            match (read, wanted) {
                (Ok(read), Ok(wanted)) => assert_eq!(read, wanted),
                (Err(why), Err(wanted)) => assert!(why.0.contains(wanted), "{text}: {why}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn brackets_around_an_address_of_ipv4_are_left_out_of_a_url() {
        for (url, wanted) in [
            ("https://[192.0.2.9]:8088/x", "https://192.0.2.9:8088/x"),
            ("https://user@[192.0.2.9]/", "https://user@192.0.2.9/"),
            ("https://[2001:db8::9]:8088", "https://[2001:db8::9]:8088"),
            ("https://a/[192.0.2.9]", "https://a/[192.0.2.9]"),
            ("https://[192.0.2.9", "https://[192.0.2.9"),
            ("[192.0.2.9]:1", "[192.0.2.9]:1"),
        ] {
            assert_eq!(plain_url(url), wanted);
        }
    }

    #[test]
    fn a_host_alone_needs_no_brackets() {
        for (host, wanted) in [
            ("0.0.0.0", "[::]:1"),
            ("::", "[::]:1"),
            ("[::]", "[::]:1"),
            ("::1", "[::1]:1"),
            ("[127.0.0.1]", "127.0.0.1:1"),
            ("fe80::1%eth0", "[fe80::1%eth0]:1"),
            ("localhost", "localhost:1"),
        ] {
            let read = Endpoint::of(host, 1).map(|endpoint| endpoint.to_string());
            assert_eq!(read.as_deref(), Ok(wanted), "{host}");
        }
        for host in ["", "a b", "localhost:1", "[x]", "http://a"] {
            assert!(Endpoint::of(host, 1).is_err(), "{host}");
        }
    }
}
