//! The socket of an endpoint, opened as Go opens it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, lookup_host},
    time::timeout,
};

use crate::endpoint::{Endpoint, Host};

/// Connections that wait with the kernel until they are accepted.
const BACKLOG: i32 = 1024;
/// How long a name server may take.
const LOOKUP: Duration = Duration::from_secs(10);

/// Listens on an endpoint. All addresses are those of both families, where the system has both. Of the
/// addresses of a name it is one, of IPv4 if there is one, so that `localhost` is reachable on 127.0.0.1:
/// with two, a second service could take `[::1]` without an error.
pub(super) async fn listen(endpoint: &Endpoint) -> io::Result<TcpListener> {
    let address = address(endpoint).await?;
    match open(address) {
        Err(error) if endpoint.host == Host::All && has_no_ipv6(&error) => {
            open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, endpoint.port)))
        }
        opened => opened,
    }
}

/// The address that an endpoint is.
pub(super) async fn address(endpoint: &Endpoint) -> io::Result<SocketAddr> {
    let port = endpoint.port;
    match &endpoint.host {
        Host::All => Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        Host::Address(address) => Ok(SocketAddr::from((*address, port))),
        Host::Zoned(address, zone) => {
            // The system knows the number of an interface.
            let host = format!("{address}%{zone}");
            resolve(&host, port).await.map_err(|_| {
                let none = format!("there is no interface {zone}");
                io::Error::new(io::ErrorKind::AddrNotAvailable, none)
            })
        }
        Host::Name(name) => resolve(name, port).await,
    }
}

/// One address of a name, of IPv4 if it has one.
async fn resolve(name: &str, port: u16) -> io::Result<SocketAddr> {
    let found = timeout(LOOKUP, lookup_host((name, port))).await??;
    let address = found.min_by_key(SocketAddr::is_ipv6);
    address.ok_or_else(|| io::Error::other("the name has no address"))
}

/// Whether the system has no IPv6.
fn has_no_ipv6(error: &io::Error) -> bool {
    // What the kernel says of a family that it does not have has no kind of its own.
    !matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // Whatever the default of the system is.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Who connects. An address of IPv4 comes as one of IPv6 through a socket of both families.
pub(super) fn peer(from: SocketAddr) -> SocketAddr {
    match (from, from.ip().to_canonical()) {
        (SocketAddr::V6(_), address @ IpAddr::V4(_)) => SocketAddr::new(address, from.port()),
        _ => from,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    async fn opened(text: &str) -> io::Result<TcpListener> {
        listen(&Endpoint::to_listen(text).unwrap()).await
    }

    /// Whether this machine has IPv6; all tests of it need no more than loopback.
    fn ipv6() -> bool {
        std::net::TcpListener::bind("[::1]:0").is_ok()
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        for text in [":0", "0.0.0.0:0", "[::]:0", "[0.0.0.0]:0"] {
            let listener = opened(text).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut clients = vec!["127.0.0.1"];
            if ipv6() {
                clients.push("::1");
            }
            for client in clients {
                let client: IpAddr = client.parse().unwrap();
                let _stream = TcpStream::connect((client, port)).unwrap();
                let (_, from) = listener.accept().await.unwrap();
                assert_eq!(peer(from).ip(), client, "{text}");
            }
        }
    }

    #[tokio::test]
    async fn one_address_is_that_alone() {
        for (text, wanted) in [
            ("[127.0.0.1]:0", "127.0.0.1"),
            ("[::ffff:127.0.0.1]:0", "127.0.0.1"),
            ("localhost:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::1%lo]:0", "::1"),
        ] {
            if wanted == "::1" && !ipv6() {
                continue;
            }
            let address = opened(text).await.unwrap().local_addr().unwrap();
            assert_eq!(address.ip().to_string(), wanted, "{text}");
        }
    }

    #[tokio::test]
    async fn a_zone_that_is_not_there_is_told() {
        let error = opened("[fe80::1%no-such-link]:0").await.unwrap_err();
        assert_eq!(error.to_string(), "there is no interface no-such-link");
        // An interface that is there, without this address.
        let error = opened("[fe80::1%lo]:0").await.unwrap_err();
        assert_ne!(error.to_string(), "there is no interface lo");
    }

    #[tokio::test]
    async fn a_port_is_taken_once() {
        let first = opened(":0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        for again in [format!(":{port}"), format!("127.0.0.1:{port}")] {
            let error = opened(&again).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{again}");
        }
    }
}
