//! The address that a server listens on.

use super::{forms::Own, read::Section};

/// An address to listen on.
pub(crate) const LISTEN: Own<String> = Own {
    form: "host:port",
    read: |section, _| listen(section),
    text: Clone::clone,
};

/// The address to listen on, if it is written and has the form of one.
fn listen(section: &Section<'_>) -> Option<String> {
    let value = section.value("endpoint")?;
    if let Err(why) = check_listen(&value.text) {
        value.expected(why);
        return None;
    }
    Some(value.text)
}

/// Whether a text has the form of an address to listen on.
fn check_listen(text: &str) -> Result<(), &'static str> {
    if text.contains("://") {
        return Err("expected host:port without a scheme, such as 127.0.0.1:4317");
    }
    let form = "expected host:port, such as 127.0.0.1:4317";
    let (host, port) = text.rsplit_once(':').ok_or(form)?;
    if port.parse::<u16>().is_err() || port.starts_with('+') {
        return Err("expected host:port with a port from 0 to 65535");
    }
    if host.is_empty() {
        return Err("expected host:port, write 0.0.0.0 as the host to listen on all addresses");
    }
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(inside) if inside.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        Some(_) => Err("expected an IPv6 address between the brackets, such as [::1]:4317"),
        None if host.contains(':') => Err("an IPv6 address needs brackets, such as [::1]:4317"),
        None if host.contains(|letter: char| letter.is_whitespace() || letter == '/') => Err(form),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_addresses_to_listen_on() {
        for good in [
            "127.0.0.1:4317",
            "0.0.0.0:0",
            "localhost:4317",
            "[::1]:4317",
            "[::]:1",
        ] {
            assert_eq!(check_listen(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "localhost",
            ":4317",
            "http://a:1",
            "a:",
            "a:65536",
            "a:+1",
            "::1:4317",
            "[x]:1",
            "a b:1",
        ] {
            assert!(check_listen(bad).is_err(), "{bad}");
        }
    }
}
