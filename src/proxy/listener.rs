//! Listening sockets: one per worker and address, so that the kernel spreads connections.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Why an address cannot be listened on.
#[derive(thiserror::Error, Debug)]
pub enum ListenError {
    /// Another process has the port.
    #[error(
        "cannot listen on {address} for {purpose}: another process has the port; stop it or choose another with {flag}"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// What for.
        purpose: &'static str,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// Everything else, ports below 1024 without the capability among it.
    #[error("cannot listen on {address} for {purpose}: choose another address with {flag}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What for.
        purpose: &'static str,
        /// The flag that sets it.
        flag: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Opens `count` sockets on one address. Port 0 is replaced by a free one, the same for all. An IPv6 wildcard takes both
/// address families; where the machine has no IPv6, IPv4 alone.
pub fn listen(
    address: SocketAddr,
    count: usize,
    purpose: &'static str,
    flag: &'static str,
) -> Result<Vec<TcpListener>, ListenError> {
    let refused = |address: SocketAddr, source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address, purpose, flag },
        _ => ListenError::Other { address, purpose, flag, source },
    };
    let mut address = address;
    // SO_REUSEPORT would let us share a port with a process that is already there, each getting some of the
    // connections. The first socket therefore asks for the port alone.
    let alone = match open(address, false) {
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && has_no_ipv6(&error) => {
            address.set_ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            open(address, false)
        }
        result => result,
    };
    let alone = alone.map_err(|error| refused(address, error))?;
    address = alone.local_addr().map_err(|error| refused(address, error))?;
    drop(alone);
    (0..count).map(|_| open(address, true).map_err(|error| refused(address, error))).collect()
}

/// Whether the error says that there is no IPv6 on this machine (EAFNOSUPPORT, EADDRNOTAVAIL).
fn has_no_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart need not wait for connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_is_one_free_port_for_all_workers() {
        let listeners = listen("127.0.0.1:0".parse().unwrap(), 3, "HTTP", "--http").unwrap();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        assert!(addresses[0].port() != 0 && addresses.iter().all(|address| *address == addresses[0]));
    }

    #[test]
    fn a_port_in_use_is_refused_and_not_shared() {
        let first = listen("127.0.0.1:0".parse().unwrap(), 2, "HTTP", "--http").unwrap();
        let address = first[0].local_addr().unwrap();
        let error = listen(address, 2, "HTTPS", "--https").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&address.to_string()) && text.contains("another process") && text.contains("--https"),
            "{text}"
        );
    }

    #[test]
    fn an_ipv6_wildcard_takes_ipv4_too() {
        let listeners = listen("[::]:0".parse().unwrap(), 1, "HTTP", "--http").unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}
